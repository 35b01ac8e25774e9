"""`hearth lease`: run a program outside Hearth with device memory that Hearth keeps free for it.

The memory comes back when the program ends, when the time is over, or when this command is gone.
"""

import contextlib
import math
import os
import signal
import subprocess
import time
from datetime import datetime
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import print_note, readable_time
from appliance.cli.units import parse_bytes, readable_bytes
from appliance.config import inherited_environment
from appliance.errors import Code, HearthError
from appliance.sdk.errors import NoAnswer, NotFound, SdkError
from appliance.sdk.fleet import Lease

TERMINATE_GRACE_S = 10.0
"""Between SIGTERM and SIGKILL when the time is over."""
POLL_S = 0.2


def lease(
    session: Session,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND …", help="The program and its arguments.")],
    memory: Annotated[str, typer.Option("--memory", metavar="SIZE", help="On each device: 20GiB, 512MiB.")],
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="At most: 90s, 2h, 1h30m.")],
    accelerator_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="For example NVIDIA_H100_80GB. Default: any.")
    ] = None,
    accelerator_count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Devices. Default: 1.")] = None,
    wait: Annotated[
        str, typer.Option("--wait-for", metavar="TIME", help="How long the memory may take to come free.")
    ] = "2m",
) -> None:
    """Lend device memory to a program that Hearth does not run."""
    held = session.client.node.lease(
        parse_bytes(memory, "--memory"),
        duration,
        accelerator_type=accelerator_type,
        accelerator_count=accelerator_count,
        command=os.path.basename(command[0]),
        wait_timeout=wait,
    )
    devices = ", ".join(held.device_ids)
    print_note(f"{readable_bytes(held.memory_bytes)} on {devices} until {readable_time(held.expire_time)}")
    try:
        status = _run(session, held, command)
    finally:
        # It is over by itself soon after its last renewal.
        with contextlib.suppress(SdkError):
            session.client.node.end_lease(held.id)
    raise typer.Exit(status)


def _run(session: Session, held: Lease, command: list[str]) -> int:
    """The program's exit status; 128 + the signal's number when one ended it, as shells count."""
    changes = {"CUDA_VISIBLE_DEVICES": held.visible_devices} if held.visible_devices else {}
    try:
        # A session of its own, so that what it starts ends with it.
        process = subprocess.Popen(command, env=inherited_environment(changes), start_new_session=True)
    except OSError as error:
        raise HearthError(Code.INVALID, f"cannot run {command[0]}: {error.strerror}") from error
    with SignalsPassedOn(process):
        status = _watch(session, held, process)
    return 128 - status if status < 0 else status


def _watch(session: Session, held: Lease, process: "subprocess.Popen[bytes]") -> int:
    ends_at = datetime.fromisoformat(held.expire_time).timestamp() if held.expire_time else math.inf
    next_renewal = time.monotonic()
    while True:
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            pass  # it runs
        if time.time() >= ends_at:
            print_note("the lease is over; ending the program")
            return _end(process)
        if time.monotonic() >= next_renewal:
            next_renewal = time.monotonic() + held.keepalive_seconds / 3
            try:
                session.client.node.renew(held.id)
            except NotFound:
                print_note("the lease was taken back; ending the program")
                return _end(process)
            except NoAnswer as error:
                print_note(f"the daemon does not answer; the program goes on ({error.message})")


def _end(process: "subprocess.Popen[bytes]") -> int:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.wait(TERMINATE_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


class SignalsPassedOn(contextlib.AbstractContextManager[None]):
    """Ctrl-C and SIGTERM reach the program, whose end ends this command."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._former: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._pass_on)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave before

    def _pass_on(self, number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


COMMANDS = [
    Command("lease", None, lease, ("hearth lease --memory 20GiB --for 2h -- python train.py",)),
]
