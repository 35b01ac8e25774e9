import asyncio
import json
import os
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from appliance.orchestrator.process import (
    LOG_LINE_LENGTH_MAX,
    LOG_TAIL_LINES,
    SOCKET_PATH_BYTES_MAX,
    LogTail,
    WorkerProcess,
    end_leftover,
    exists,
    identify,
    prepare_run_dir,
    worker_environment,
)
from tests.fakes.fake_gpus import fake_device
from tests.waiting import until

CONNECT = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[2]); "


async def spawn(run_dir: Path, source: str, kernel_cache: Path | None = None) -> WorkerProcess:
    command = [sys.executable, "-c", source]
    run_dir = prepare_run_dir(run_dir)
    return await WorkerProcess.spawn(
        command, run_dir, "test", [fake_device()], num_threads=2, kernel_cache=kernel_cache
    )


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_there(path: Path) -> bool:
    return path.exists()


async def test_how_a_process_ended_is_told_as_soon_as_it_has(tmp_path: Path) -> None:
    worker = await spawn(tmp_path, "raise SystemExit(7)")
    assert await worker.wait() == "the worker exited with status 7"
    await worker.close()


async def test_a_signal_is_told_by_name(tmp_path: Path) -> None:
    worker = await spawn(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert await worker.wait() == "the worker was ended by SIGKILL"
    await worker.close()


async def test_a_command_that_does_not_exist_leaves_nothing_behind(tmp_path: Path) -> None:
    run_dir = prepare_run_dir(tmp_path)
    with pytest.raises(FileNotFoundError):
        await WorkerProcess.spawn(["/nonexistent/worker"], run_dir, "test", [fake_device()], num_threads=1)
    assert list(run_dir.iterdir()) == []


async def test_it_runs_in_a_private_directory_and_a_session_of_its_own(tmp_path: Path) -> None:
    worker = await spawn(tmp_path, "import time; time.sleep(600)")
    assert os.getsid(worker.pid) == worker.pid
    home = Path(os.readlink(f"/proc/{worker.pid}/cwd"))
    assert home.parent == tmp_path
    assert mode_of(home) == 0o700
    assert mode_of(home / "socket") == 0o600
    await worker.close()
    assert os.listdir(tmp_path) == []


async def test_its_environment_holds_nothing_of_the_daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_API_KEY", "fw_secret")
    kernel_cache = tmp_path / "kernels"
    worker = await spawn(tmp_path / "run", "import json, os; print(json.dumps(dict(os.environ)))", kernel_cache)
    await worker.wait()
    await worker.close()
    environment = json.loads(worker.log.lines[0])
    expected = worker_environment(Path(environment["HOME"]), [fake_device()], 2, kernel_cache)
    assert environment.items() >= expected.items()
    assert environment.keys() - expected.keys() <= {"LC_CTYPE"}  # Python's own
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("2", "passive")
    assert Path(environment["TRITON_CACHE_DIR"]).parent == kernel_cache, "what was compiled outlives the worker's home"


async def test_what_a_killed_worker_has_left_for_the_moment_goes_with_it(tmp_path: Path) -> None:
    source = "import os, tempfile; print(tempfile.mkdtemp(), flush=True); os.kill(os.getpid(), 9)"
    worker = await spawn(tmp_path, source)
    await worker.wait()
    left = Path(worker.log.lines[0])
    assert is_there(left)
    await worker.close()
    assert not is_there(left)


async def test_it_inherits_no_open_file(tmp_path: Path) -> None:
    worker = await spawn(tmp_path, "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))")
    await worker.wait()
    await worker.close()
    assert worker.log.lines[0] == "[0, 1, 2, 3]"  # 3 is the listing itself


async def test_the_end_takes_everything_it_started(tmp_path: Path) -> None:
    source = (
        "import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
    )
    worker = await spawn(tmp_path, source)
    await until(lambda: worker.log.lines)
    grandchild = int(worker.log.lines[0])
    await worker.close()
    await until(lambda: identify(grandchild) is None)


async def test_a_grandchild_that_holds_its_output_delays_nothing(tmp_path: Path) -> None:
    worker = await spawn(tmp_path, "import subprocess; subprocess.Popen(['sleep', '600'])")
    assert await asyncio.wait_for(worker.wait(), 30) == "the worker exited with status 0"
    await worker.close()


async def test_only_the_worker_itself_may_connect(tmp_path: Path) -> None:
    wait = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    worker = await spawn(tmp_path, wait + CONNECT + "s.sendall(b'me'); time.sleep(600)")
    home = Path(os.readlink(f"/proc/{worker.pid}/cwd"))
    with socket.socket(socket.AF_UNIX) as intruder:
        intruder.connect(str(home / "socket"))
        (home / "go").touch()
        reader, writer = await asyncio.wait_for(worker.accept(), 60)
        assert intruder.recv(1) == b""
    assert await reader.readexactly(2) == b"me"
    writer.transport.abort()
    await worker.close()


def test_the_last_lines_of_a_log_are_kept_and_none_is_endless() -> None:
    log = LogTail("test")
    for number in range(3 * LOG_TAIL_LINES):
        log.feed(f"line {number}\nand ".encode())
    assert len(log.lines) == LOG_TAIL_LINES
    assert log.lines[-1] == f"and line {3 * LOG_TAIL_LINES - 1}"
    log.feed(b"\xff" * 10 * LOG_LINE_LENGTH_MAX)
    assert len(log.lines[-1]) <= LOG_LINE_LENGTH_MAX


async def test_the_last_words_without_a_line_end_are_kept(tmp_path: Path) -> None:
    worker = await spawn(tmp_path, "import sys; sys.stderr.write('Fatal: out of luck')")
    await worker.wait()
    await worker.close()
    assert worker.log.lines[-1] == "Fatal: out of luck"


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    identity = identify(os.getpid())
    assert identity is not None
    assert identity == identify(os.getpid())
    assert identity != identity._replace(started_ticks=identity.started_ticks + 1)


def test_a_zombie_is_no_process() -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet collected
    assert identify(pid) is None
    assert exists(pid)
    os.waitpid(pid, 0)
    assert not exists(pid)


async def test_a_leftover_is_ended_only_when_it_is_the_same_process(tmp_path: Path) -> None:
    worker = await spawn(tmp_path, "import time; time.sleep(600)")
    identity = worker.identity
    assert identity is not None
    assert await end_leftover(identity._replace(started_ticks=identity.started_ticks + 1))
    assert await end_leftover(identity._replace(boot_id="of another boot"))
    assert identify(worker.pid) == identity
    assert await end_leftover(identity)
    assert await worker.wait() == f"the worker was ended by {signal.SIGKILL.name}"
    assert await end_leftover(identity)
    await worker.close()


def test_the_run_directory_is_emptied_and_private(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "w-old").mkdir(parents=True, mode=0o755)
    assert prepare_run_dir(run_dir) == run_dir
    assert list(run_dir.iterdir()) == []
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700


async def test_a_run_directory_too_long_for_a_socket_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        await _run_elsewhere(tmp_path / ("long" * SOCKET_PATH_BYTES_MAX)[:SOCKET_PATH_BYTES_MAX], Path(short))


async def _run_elsewhere(run_dir: Path, elsewhere: Path) -> None:
    assert prepare_run_dir(run_dir).parent == elsewhere
    assert prepare_run_dir(run_dir) == prepare_run_dir(run_dir)
    worker = await spawn(run_dir, CONNECT + "time.sleep(600)")
    _, writer = await asyncio.wait_for(worker.accept(), 60)
    writer.transport.abort()
    await worker.close()


def test_a_link_in_place_of_the_run_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        prepare_run_dir(tmp_path / "run")
