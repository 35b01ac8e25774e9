"""The faults of workers and of clients, for `benchmarks/faults.py`."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.fault_rows import Fault, Figures, in_ms
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.endings import Ending, How, caller, read_stream
from tests.end_to_end.invariants import check_invariants, footing, replica_pids
from tests.end_to_end.leaving import Phase, Way, leave
from tests.end_to_end.observation import ask, metric
from tests.end_to_end.scripted import FAKE, delete, deploy, pid_of, say, script_model, show
from tests.fakes.fake_worker import Act, FakeModel, Script

QUICK: dict[str, object] = {
    "backoff_first_s": 0.01,
    "backoff_max_s": 0.05,
    "heartbeat_timeout_s": 2.0,
    "crashes_max": 100_000,
    "max_connections_per_address": 2048,
}
NUM_TOKENS = 40
ERROR_WITHIN_S = 1.0
KILLED_AT = {"prefill": 0, "first token": 1, "in the middle": NUM_TOKENS // 2, "last token": NUM_TOKENS - 1}
IDLE_SIGNALS = [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGKILL]
CLIENTS_PER_STORM = 150


@contextlib.contextmanager
def scripted_daemon(directory: Path, model: FakeModel, **settings: object) -> Iterator[DaemonProcess]:
    """With a deployment that faults happen to, and another one that must not notice."""
    with running_daemon(directory / "data", **{**FAKE, **QUICK, **settings}) as daemon:
        script_model(daemon, model)
        for deployment_id in ("struck", "spared"):
            pid_of(daemon, deploy(daemon, deployment_id))
        (spared,) = replica_pids(daemon, "accounts/hearth/deployments/spared")
        yield daemon
        assert replica_pids(daemon, "accounts/hearth/deployments/spared") == [spared], "the other one was touched"
        check_invariants(daemon)
        assert "Traceback" not in daemon.log()


STRUCK = "accounts/hearth/deployments/struck"


def body_of(chance: random.Random, script: Script) -> dict[str, object]:
    """No two are alike: the same content in flight at two crashes would be refused."""
    system = {"role": "system", "content": chance.randbytes(8).hex()}
    return {"model": STRUCK, "messages": [system, {"role": "user", "content": script.text()}]}


def kill_mid_stream(directory: Path, chance: random.Random, count: int) -> Figures:
    error_s: list[float] = []
    recovery_s: list[float] = []
    endings: Counter[str] = Counter()

    async def strike(daemon: DaemonProcess, moment: str) -> None:
        pid = pid_of(daemon, STRUCK)
        killed_at = 0.0

        def kill() -> None:
            nonlocal killed_at
            killed_at = killed_at or time.monotonic()
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()

        def on_event(number: int) -> None:
            if number == KILLED_AT[moment]:
                kill()

        prefill_ms = 200.0 if moment == "prefill" else 0.0
        async with caller(daemon) as session:
            if moment == "prefill":
                asyncio.get_running_loop().call_later(0.1, kill)
            body = body_of(chance, Script(num_tokens=NUM_TOKENS, prefill_ms=prefill_ms))
            ending = await read_stream(session, body, on_event)
            ended_at = time.monotonic()
            assert ending.is_clean, ending
            endings[f"{moment}: {ending.how} {ending.code}".strip()] += 1
            if ending.how is How.ERROR_EVENT:
                error_s.append(ended_at - killed_at)
                assert error_s[-1] < ERROR_WITHIN_S, f"the error came {error_s[-1]:.2f} s after the kill"
            assert (await read_stream(session, body_of(chance, Script()))).how is How.COMPLETE
            recovery_s.append(time.monotonic() - killed_at)

    with scripted_daemon(directory, FakeModel(step_ms=5.0)) as daemon:
        for number in range(count):
            asyncio.run(strike(daemon, list(KILLED_AT)[number % len(KILLED_AT)]))
    return {"endings": dict(endings), "error": in_ms(error_s or [0.0]), "next_answer": in_ms(recovery_s)}


def end_while_idle(directory: Path, chance: random.Random, count: int) -> Figures:
    recovery_s: list[float] = []
    with scripted_daemon(directory, FakeModel()) as daemon:
        for number in range(count):
            pid = pid_of(daemon, STRUCK)
            psutil.Process(pid).send_signal(IDLE_SIGNALS[number % len(IDLE_SIGNALS)])
            struck_at = time.monotonic()
            wait_until(lambda pid=pid: replica_pids(daemon, STRUCK) not in ([], [pid]), 30, "another worker")  # type: ignore[misc]
            assert say(daemon, STRUCK, Script(), str(number)).status_code == 200
            recovery_s.append(time.monotonic() - struck_at)
    return {"signals": [number.name for number in IDLE_SIGNALS], "next_answer": in_ms(recovery_s)}


def crash_in_every_load(directory: Path, chance: random.Random, count: int) -> Figures:
    failed_s: list[float] = []
    with running_daemon(directory / "data", **{**FAKE, **QUICK, "crashes_max": 5}) as daemon:
        for number in range(count):
            script_model(daemon, FakeModel(load="exit", exit_status=number % 2, log_lines=[f"last words {number}"]))
            began = time.monotonic()
            name = deploy(daemon, "loop")
            wait_until(lambda: show(daemon, "loop")["state"] == "FAILED", 60, "FAILED")
            failed_s.append(time.monotonic() - began)
            assert f"last words {number}" in show(daemon, "loop/terminationMessage")["message"]
            assert say(daemon, name, Script()).json()["error"]["code"] == "DEPLOYMENT_FAILED"
            delete(daemon, "loop")
            check_invariants(daemon)
    return {"exit_statuses": [0, 1], "crashes_each": 5, "failed_after": in_ms(failed_s)}


def stand_still(directory: Path, chance: random.Random, count: int) -> Figures:
    error_s: list[float] = []

    async def ask_for(daemon: DaemonProcess, act: Act) -> Ending:
        async with caller(daemon) as session:
            return await read_stream(session, body_of(chance, Script(act=act, at=3)))

    with scripted_daemon(directory, FakeModel()) as daemon:
        for number in range(count):
            pid = pid_of(daemon, STRUCK)
            began = time.monotonic()
            if number % 3 == 2:  # stopped while idle: the next request must not hang on it
                psutil.Process(pid).send_signal(signal.SIGSTOP)
                assert say(daemon, STRUCK, Script(), str(number)).status_code == 200
            else:
                ending = asyncio.run(ask_for(daemon, (Act.HANG, Act.STAND_STILL)[number % 3]))
                assert (ending.how, ending.code) == (How.ERROR_EVENT, "WORKER_LOST")
                assert say(daemon, STRUCK, Script(), str(number)).status_code == 200
            error_s.append(time.monotonic() - began)
    return {"kinds": ["whole process", "engine alone", "SIGSTOP while idle"], "next_answer": in_ms(error_s)}


def give_no_memory(directory: Path, chance: random.Random, count: int) -> Figures:
    """The real worker and the built-in model: its allocations fail as those of a full machine do."""
    statuses: Counter[int] = Counter()
    recovery_s: list[float] = []
    with running_daemon(directory / "data", **QUICK) as daemon:
        ask(daemon)
        for number in range(count):
            wait_until(lambda: len(daemon.workers()) == 1, 60, "one worker")
            daemon.workers()[0].rlimit(psutil.RLIMIT_AS, (1 << 20, 1 << 20))
            began = time.monotonic()
            messages = [{"role": "user", "content": f"Tell me about Hearth. {number}"}]
            with daemon.client() as client:
                answer = client.post("/v1/chat/completions", json={"model": "ember-chat", "messages": messages, "n": 8})
            statuses[answer.status_code] += 1
            assert answer.status_code == 200 or answer.json()["error"]["code"] == "WORKER_LOST", answer.text
            assert "Hearth" in ask(daemon)
            recovery_s.append(time.monotonic() - began)
        check_invariants(daemon)
    return {"statuses": dict(statuses), "next_answer": in_ms(recovery_s)}


def leave_in_storms(directory: Path, chance: random.Random, count: int) -> Figures:
    async def storm(daemon: DaemonProcess) -> None:
        async with asyncio.timeout(120):
            ways = [(chance.choice(list(Phase)), chance.choice(list(Way))) for _ in range(CLIENTS_PER_STORM)]
            await asyncio.gather(*(leave(daemon, phase, way) for phase, way in ways))

    with running_daemon(directory / "data", **{**FAKE, **QUICK, "num_spare_workers": 0}) as daemon:
        script_model(daemon, FakeModel(step_ms=10.0, max_num_running=16))
        ask(daemon)
        asyncio.run(storm(daemon))
        check_invariants(daemon)
        start, (pid,) = footing(daemon), replica_pids(daemon)
        num_lines = len(daemon.log().splitlines())
        for _ in range(count):
            asyncio.run(storm(daemon))
            wait_until(lambda: metric(daemon, "hearth_requests_running") == 0, 30, "the worker to be idle")
            check_invariants(daemon, start)
        assert replica_pids(daemon) == [pid]
        num_lines = len(daemon.log().splitlines()) - num_lines
        assert num_lines <= count * CLIENTS_PER_STORM
        end = footing(daemon)
    return {
        "clients_each": CLIENTS_PER_STORM,
        "log_lines": num_lines,
        "rss_mib": [start.rss_bytes >> 20, end.rss_bytes >> 20],
        "open_files": [start.num_fds, end.num_fds],
    }


WORKER_FAULTS = [
    Fault("F1", "kill -9 of a worker in the middle of a stream", 200, "I3 I4 I5 I10", kill_mid_stream),
    Fault("F2", "a worker ends while idle", 100, "I3 I4 I10", end_while_idle),
    Fault("F2", "every worker ends in its load", 20, "I3 I4", crash_in_every_load),
    Fault("F3", "a worker stands still", 30, "I3 I4 I5 I10", stand_still),
    Fault("F10", "a worker gets no memory", 20, "I3 I4 I5 I10", give_no_memory, engine="ember-chat on CPU"),
    Fault("F12", "storms of clients that leave by FIN, RST and half-close", 20, "I3 I4 I7", leave_in_storms),
]
