"""The faults of the daemon itself, for `benchmarks/faults.py`."""

import asyncio
import os
import random
import signal
import socket
import time
from pathlib import Path

import psutil

from appliance.daemon import EXIT_CONFIG, EXIT_LOCKED
from benchmarks.fault_rows import Fault, Figures, in_ms
from benchmarks.kills import KILLS_PER_DIRECTORY, RESTART_S_MAX, soak
from tests.appliance.store.old_databases import NEWEST, check_rows, make_database, upgrade_and_die
from tests.end_to_end.daemon_process import running_daemon, wait_until
from tests.end_to_end.invariants import check_invariants
from tests.end_to_end.observation import ask
from tests.end_to_end.restarting import NUM_BYTES, create_model, kill_while_a_file_arrives, serve, upload
from tests.end_to_end.scripted import FAKE


def kill_while_it_writes(directory: Path, chance: random.Random, count: int) -> Figures:
    restart_s: list[float] = []
    num_rows = 0
    for first in range(0, count, KILLS_PER_DIRECTORY):
        acknowledged, durations_s = soak(min(KILLS_PER_DIRECTORY, count - first), chance)
        num_rows += len(acknowledged)
        restart_s += durations_s
    return {"acknowledged_rows": num_rows, "lost_rows": 0, "ready_again": in_ms(restart_s)}


def kill_while_it_receives(directory: Path, chance: random.Random, count: int) -> Figures:
    with running_daemon(directory / "data", **FAKE) as daemon:
        model = create_model(daemon, "mine")
        for number in range(count):
            last_byte = NUM_BYTES if number % 5 == 4 else chance.randrange(NUM_BYTES)
            kill_while_a_file_arrives(daemon, model, last_byte)
        upload(daemon, model)
        check_invariants(daemon)
    return {"file_bytes": NUM_BYTES, "of_them_after_the_last_byte": count // 5}


def find_the_port_taken(directory: Path, chance: random.Random, count: int) -> Figures:
    for _ in range(count):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            refused = serve(directory / "data", "--port", str(taken.getsockname()[1]))
        assert refused.returncode == EXIT_CONFIG, refused.stderr
        assert refused.stderr.count("cannot listen") == 1
        assert "Traceback" not in refused.stderr
        left = [
            process for process in psutil.process_iter(["cmdline"]) if str(directory) in str(process.info["cmdline"])
        ]
        assert len([process for process in left if process.pid != os.getpid()]) == 0
    return {"exit_status": EXIT_CONFIG}


def start_two(directory: Path, chance: random.Random, count: int) -> Figures:
    restart_s: list[float] = []
    with running_daemon(directory / "data", **FAKE) as daemon:
        ask(daemon)
        for _ in range(count):
            second = serve(daemon.data_dir, "--port", "0")
            assert second.returncode == EXIT_LOCKED, second.stderr
            assert f"pid {daemon.pid}" in second.stderr
            daemon.kill()
            daemon.spawn()
            restart_s.append(wait_until(daemon.is_announced, 30, "ready again"))
            assert restart_s[-1] < RESTART_S_MAX, f"ready after {restart_s[-1]:.1f} s"
            check_invariants(daemon)
    return {"exit_status": EXIT_LOCKED, "ready_again": in_ms(restart_s)}


def kill_upgrades(directory: Path, chance: random.Random, count: int) -> Figures:
    """At every statement of the upgrade from every older schema, or at a share of them."""
    num_killed: dict[int, int] = {}
    slowest_s = 0.0
    for schema in range(1, NEWEST):
        statement = 0
        while sum(num_killed.values()) < count:
            statement += 1
            path = directory / f"{schema}-{statement}.db"
            make_database(path, schema)
            if (status := upgrade_and_die(path, statement)) == 0:
                break
            assert status == -signal.SIGKILL, status
            began = time.monotonic()
            asyncio.run(check_rows(path))
            slowest_s = max(slowest_s, time.monotonic() - began)
            num_killed[schema] = statement
    killed = sum(num_killed.values())
    return {"count": killed, "statements_by_schema": num_killed, "slowest_start_ms": round(1000 * slowest_s)}


DAEMON_FAULTS = [
    Fault(
        "F4", "kill -9 of the daemon while it writes and serves", 200, "I1 I3 I4", kill_while_it_writes, "ember-chat"
    ),
    Fault("F5", "kill -9 of the daemon while a file arrives", 50, "I1 I4 I6", kill_while_it_receives),
    Fault("F16", "the port is taken", 20, "I4", find_the_port_taken),
    Fault("F17", "two daemons on one directory, then kill -9 of the first", 50, "I3 I4", start_two),
    Fault("F18", "kill -9 at every statement of every upgrade", 1000, "I1", kill_upgrades, "none"),
]
