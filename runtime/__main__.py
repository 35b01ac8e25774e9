"""`python -m runtime …`: a worker process starts here. It dies with the daemon that started it."""

import argparse
import ctypes
import faulthandler
import logging
import os
import signal
import sys

from runtime.engine import load_engine
from runtime.worker import run_worker

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="A Hearth worker; started by the daemon.")
    parser.add_argument("--kind", required=True, help="which engine this process becomes")
    parser.add_argument("--deployment", required=True, help="shown in the process list")
    parser.add_argument("--replica", required=True, help="shown in the process list")
    parser.add_argument("--socket", required=True, help="unix socket of the daemon")
    parser.add_argument("--parent-pid", type=int, required=True, help="the daemon; the worker ends with it")
    options = parser.parse_args()
    die_with_parent(options.parent_pid)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    return run_worker(options.socket, load_engine)


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
