"""What must hold whenever a fault is over, seen from outside: through the API and in /proc.

The ledger is the live workers' assignments; no process is left over; nothing that requests took is kept. That every
request got one clean ending is for those who made them to check (`endings.py`).
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil

from tests.end_to_end.daemon_process import DaemonProcess, wait_until
from tests.end_to_end.observation import metric

SETTLED_S = 20.0
HOLDING = {"STARTING", "LOADING", "READY", "DRAINING", "STOPPING"}
"""States of replicas that hold memory of a device for certain; while it waits after a crash one may or may not."""
FREE = {"STOPPED", "ASLEEP"}
RSS_SLACK_BYTES = 24 << 20
"""An allocator keeps what it had at the peak of many requests."""
FDS_SLACK = 4
"""Readers of the state store come and go."""
TASKS_SLACK = 8


class Footing(NamedTuple):
    """What the daemon's process holds while nothing is asked of it."""

    num_workers: int
    num_fds: int
    num_tasks: int
    rss_bytes: int


def footing(daemon: DaemonProcess) -> Footing:
    process = psutil.Process(daemon.pid)
    num_tasks = round(metric(daemon, "hearth_event_loop_tasks"))
    return Footing(len(process.children()), process.num_fds(), num_tasks, process.memory_info().rss)


def fleet(daemon: DaemonProcess) -> dict[str, Any]:
    with daemon.client() as client:
        answer = client.get("/v1/node/fleet")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def replica_pids(daemon: DaemonProcess, deployment: str = "") -> list[int]:
    """Workers of ready replicas, of one deployment (by full name) or of all."""
    return [
        replica["processId"]
        for replica in fleet(daemon).get("replicas", [])
        if replica["state"] == "READY" and replica["name"].startswith(deployment)
    ]


def check_invariants(daemon: DaemonProcess, start: Footing | None = None) -> None:
    """Waits for the dust to settle; then everything must be in order, and, if given, as it was at `start`."""
    last: list[str] = []

    def is_in_order() -> bool:
        last[:] = violations(daemon, start)
        return not last

    try:
        wait_until(is_in_order, SETTLED_S, "all in order")
    except AssertionError:
        raise AssertionError(f"not in order after {SETTLED_S:g} s: {last}") from None


def violations(daemon: DaemonProcess, start: Footing | None = None) -> list[str]:
    seen = fleet(daemon)
    found = [*_ledger_violations(seen), *_process_violations(daemon, seen)]
    if num := metric(daemon, "hearth_generations_in_flight"):
        found.append(f"{num:g} generations are in flight")
    if start is not None and not found:
        found += _leaks(start, footing(daemon))
    return found


def _ledger_violations(seen: dict[str, Any]) -> Iterator[str]:
    """Each live replica's reservation, no other, and never more than there is."""
    holders: dict[str, dict[str, int]] = {}
    for device in seen["devices"]:
        total = 0
        for holder in device.get("holders", []):
            total += holder["memoryBytes"]
            if holder["owner"].startswith("accounts/"):
                holders.setdefault(holder["owner"], {})[device["id"]] = holder["memoryBytes"]
        if total > device["memoryBytes"]:
            yield f"{device['id']} is overcommitted: {total} of {device['memoryBytes']} bytes"
    for replica in seen.get("replicas", []):
        deployment, _, index = replica["name"].rpartition("/")
        held = holders.pop(f"{deployment}/replicas/{index}", {})
        expected = dict.fromkeys(replica.get("deviceIds", []), replica.get("reservedBytes", 0))
        if replica["state"] in HOLDING and held != expected:
            yield f"{replica['name']} is {replica['state']} and holds {held}, not {expected}"
        if replica["state"] in FREE and held:
            yield f"{replica['name']} is {replica['state']} and holds {held}"
        if replica["state"] == "READY" and not psutil.pid_exists(replica["processId"]):
            yield f"{replica['name']} is READY without a process"
    for owner, held in holders.items():
        yield f"{owner} holds {held} and is no replica"


def _process_violations(daemon: DaemonProcess, seen: dict[str, Any]) -> Iterator[str]:
    """Every worker is a replica's, or a spare one; none is a zombie."""
    known = {replica.get("processId") for replica in seen.get("replicas", [])}
    for child in psutil.Process(daemon.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            words = [] if child.status() == psutil.STATUS_ZOMBIE else child.cmdline()
            if not words:
                yield f"{child.pid} is a zombie"
            elif "--kind" in words and "spare" not in words and child.pid not in known:
                yield f"{child.pid} is a worker of nobody: {words}"


def _leaks(start: Footing, now: Footing) -> Iterator[str]:
    if now.num_workers != start.num_workers:
        yield f"{now.num_workers} workers, {start.num_workers} at the start"
    if now.num_fds > start.num_fds + FDS_SLACK:
        yield f"{now.num_fds} open files, {start.num_fds} at the start"
    if now.num_tasks > start.num_tasks + TASKS_SLACK:
        yield f"{now.num_tasks} tasks, {start.num_tasks} at the start"
    if now.rss_bytes > start.rss_bytes * 1.02 + RSS_SLACK_BYTES:
        yield f"{now.rss_bytes >> 20} MiB of memory, {start.rss_bytes >> 20} at the start"
