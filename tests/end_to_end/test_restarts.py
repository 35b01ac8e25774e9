"""Starts that cannot be, or that follow a bad end: exit codes for systemd, one clear line, and nothing half done."""

import random
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import psutil

from appliance.daemon import EXIT_CONFIG, EXIT_LOCKED
from tests.appliance.store.old_databases import NEWEST, make_database, schema_of
from tests.end_to_end.daemon_process import running_daemon
from tests.end_to_end.invariants import check_invariants
from tests.end_to_end.observation import ask
from tests.end_to_end.restarting import NUM_BYTES, create_model, kill_while_a_file_arrives, serve, upload
from tests.end_to_end.scripted import FAKE


def test_a_taken_port_is_a_configuration_error_that_no_restart_mends(tmp_path: Path) -> None:
    try:
        taken = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        host, port, *_ = taken.getsockname()
        refused = serve(tmp_path / "data", "--host", host, "--port", str(port))
    assert refused.returncode == EXIT_CONFIG == 78
    assert refused.stderr.count("cannot listen") == 1
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])
    ]


def test_a_daemon_keeps_its_directory_to_itself_until_it_is_killed(tmp_path: Path) -> None:
    with running_daemon(tmp_path / "data", **FAKE) as daemon:
        ask(daemon)
        second = serve(daemon.data_dir, "--port", "0")
        assert second.returncode == EXIT_LOCKED == 75
        assert f"pid {daemon.pid}" in second.stderr
        for worker in psutil.Process(daemon.pid).children():
            files = [file.path for file in worker.open_files()]
            assert not [file for file in files if "hearth.lock" in file or "hearth.db" in file]
        daemon.kill()
        daemon.start()
        ask(daemon)
        check_invariants(daemon)


def test_a_daemon_killed_while_a_file_arrives_keeps_nothing_of_it_and_takes_it_again(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with running_daemon(tmp_path / "data", **FAKE) as daemon:
        model = create_model(daemon, "mine")
        for last_byte in (chance.randrange(NUM_BYTES), NUM_BYTES):
            kill_while_a_file_arrives(daemon, model, last_byte)
        upload(daemon, model)


def test_a_directory_of_an_older_version_is_taken_over_and_one_of_a_newer_is_refused(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    make_database(data_dir / "hearth.db", schema=1)
    with running_daemon(data_dir, **FAKE) as daemon:
        assert httpx.get(daemon.base_url + "/readyz").status_code == 200
        assert ask(daemon)
    assert schema_of(data_dir / "hearth.db") == NEWEST
    with closing(sqlite3.connect(data_dir / "hearth.db")) as db:
        db.execute(f"PRAGMA user_version = {NEWEST + 1}")
    refused = serve(data_dir, "--port", "0")
    assert refused.returncode == EXIT_CONFIG
    assert "install a newer one" in refused.stderr
