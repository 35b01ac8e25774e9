"""The wiring: everything starts on one data directory, ends in order, and says in one line why it cannot start."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from appliance.config import Config, FleetSettings, ServerSettings
from appliance.daemon import EXIT_CONFIG, EXIT_IO_ERROR, EXIT_LOCKED, running_daemon
from appliance.errors import HearthError

FAKE_WORKER = [sys.executable, "-m", "tests.fakes.fake_worker"]


def config(data_dir: Path, port: int = 0) -> Config:
    return Config(data_dir=data_dir, server=ServerSettings(port=port), fleet=FleetSettings(worker_command=FAKE_WORKER))


def serve(data_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", "serve", "--data-dir", str(data_dir), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


async def test_it_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_daemon(config(tmp_path / "data")) as daemon, httpx.AsyncClient() as client:
        assert (await client.get(f"{daemon.base_url}/readyz")).status_code == 200
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{daemon.base_url}/readyz")
    async with running_daemon(config(tmp_path / "data")):
        pass  # the lock was given back


async def test_the_data_directory_is_private(tmp_path: Path) -> None:
    async with running_daemon(config(tmp_path / "data")):
        pass
    readable = [path for path in (tmp_path / "data").rglob("*") if path.stat().st_mode & 0o077 and path.is_dir()]
    assert not readable
    for name in ("admin-api-key", "master-key", "hearth.lock"):
        assert (tmp_path / "data" / name).stat().st_mode & 0o777 == 0o600


async def test_another_master_key_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_daemon(config(data)):
        pass
    (data / "master-key").rename(tmp_path / "kept")
    refused = await asyncio.to_thread(serve, data, "--port", "0")
    assert refused.returncode == EXIT_CONFIG
    assert "master-key is missing" in refused.stderr
    assert not (data / "master-key").exists()

    (data / "master-key").write_bytes(bytes(32))
    refused = await asyncio.to_thread(serve, data, "--port", "0")
    assert refused.returncode == EXIT_CONFIG
    assert "written with another master key" in refused.stderr

    (tmp_path / "kept").replace(data / "master-key")
    async with running_daemon(config(data)):
        pass


async def test_rows_that_are_missing_at_the_start_do_not_keep_it_from_serving(tmp_path: Path) -> None:
    async with running_daemon(config(tmp_path / "data")):
        pass
    head = (tmp_path / "data" / "audit-head").read_text()
    (tmp_path / "data" / "audit-head").unlink()
    async with running_daemon(config(tmp_path / "data")) as daemon, httpx.AsyncClient() as client:
        key = (tmp_path / "data" / "admin-api-key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        assert (await client.get(f"{daemon.base_url}/readyz")).status_code == 200
        assert "hearth_audit_losses 1.0" in (await client.get(f"{daemon.base_url}/metrics", headers=headers)).text
        logs = (await client.get(f"{daemon.base_url}/v1/accounts/hearth/auditLogs", headers=headers)).json()
        assert "audit-head is missing" in next(
            entry["message"] for entry in logs["auditLogs"] if entry["method"] == "ReportAuditLoss"
        )
    assert (tmp_path / "data" / "audit-head").read_text() != head


async def test_a_second_daemon_on_the_directory_is_refused(tmp_path: Path) -> None:
    async with running_daemon(config(tmp_path / "data")):
        with pytest.raises(HearthError, match="another hearth daemon"):
            async with running_daemon(config(tmp_path / "data")):
                pass
        refused = await asyncio.to_thread(serve, tmp_path / "data")
    assert refused.returncode == EXIT_LOCKED
    assert "another hearth daemon" in refused.stderr


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = serve(tmp_path / "data", "--port", str(port))
    assert refused.returncode == EXIT_CONFIG
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_damaged_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hearth.db").write_bytes(b"not a database at all" * 100)
    refused = serve(tmp_path / "data", "--port", "0")
    assert refused.returncode not in (0, EXIT_IO_ERROR)
    assert "hearth.db" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_write_error_ends_the_process_for_a_restart(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse writes as a failing disk would; the key table grows until it does."""
    script = f"""
import asyncio, resource, signal, sys
from pathlib import Path
import httpx
from appliance.config import load_config
from appliance import daemon as wiring
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
configuration = load_config(None, {{"data_dir": {str(tmp_path / "data")!r}, "port": 0}})

async def write(base_url, key):
    async with httpx.AsyncClient(base_url=base_url, headers={{"Authorization": "Bearer " + key}}) as client:
        size = Path({str(tmp_path / "data" / "hearth.db-wal")!r}).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        answer = await client.post("/v1/accounts/hearth/users/admin/apiKeys", json={{"apiKey": {{}}}})
        ready = await client.get("/readyz")
        print(answer.status_code, ready.status_code, flush=True)

original = wiring.running_daemon
from contextlib import asynccontextmanager
@asynccontextmanager
async def running(config):
    async with original(config) as daemon:
        task = asyncio.create_task(write(daemon.base_url, (config.data_dir / "admin-api-key").read_text().strip()))
        yield daemon
        await task
wiring.running_daemon = running
sys.exit(wiring.run(lambda: configuration))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == EXIT_IO_ERROR, run.stderr[-2000:]
    assert "503 503" in run.stdout, run.stdout
