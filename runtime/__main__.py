"""`python -m runtime …`: a worker process starts here. It dies with the daemon that started it.

Its title in the process list says what it is: a spare worker, or which replica of which deployment.
"""

import argparse
import ctypes
import faulthandler
import logging
import os
import signal
import sys

from setproctitle import setproctitle

from runtime.engine import LoadedEngine, ReportProgress, load_engine
from runtime.protocol import Load
from runtime.stages import process_age_ms
from runtime.worker import run_worker

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
TITLE = "python -m runtime"
SPARE = "spare"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="A Hearth worker; started by the daemon.")
    parser.add_argument("--kind", required=True, help=f"which engine this process becomes, or {SPARE}: any, later")
    parser.add_argument("--deployment", default="", help="shown in the process list")
    parser.add_argument("--replica", default="", help="shown in the process list")
    parser.add_argument("--socket", required=True, help="unix socket of the daemon")
    parser.add_argument("--parent-pid", type=int, required=True, help="the daemon; the worker ends with it")
    options = parser.parse_args()
    die_with_parent(options.parent_pid)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    if options.kind != SPARE:
        show(options.kind, options.deployment, options.replica)
        process_ms = process_age_ms()
        return run_worker(
            options.socket, lambda load, report: load_engine(load, report).with_earlier({"process": process_ms})
        )
    setproctitle(f"{TITLE} --kind {SPARE}")
    return run_worker(options.socket, load_engine_and_show, prepare)


def prepare() -> int:
    from runtime.preparation import prepare  # it imports all that a spare worker is to have imported, after Hello

    return prepare()


def load_engine_and_show(load: Load, report: ReportProgress) -> LoadedEngine:
    if load.deployment:
        show(load.kind, load.deployment, str(load.replica))
    return load_engine(load, report)


def show(kind: str, deployment: str, replica: str) -> None:
    setproctitle(f"{TITLE} --kind {kind} --deployment {deployment} --replica {replica}")


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends; core dumps, which would hold prompts, are switched off.

    The parent may have died before the request took effect, hence the second look.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit("the daemon is gone")


if __name__ == "__main__":
    sys.exit(main())
