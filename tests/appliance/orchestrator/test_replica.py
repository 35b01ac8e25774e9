import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest

from appliance.config import FleetSettings
from appliance.domain import ReplicaRow, ReplicaState
from appliance.errors import HearthError
from appliance.orchestrator.process import identify, prepare_run_dir
from appliance.orchestrator.replica import TRANSITIONS, Replica
from appliance.store import replicas
from appliance.store.database import Database
from runtime.protocol import Load, Submit
from runtime.submission import TextPrompt
from tests.appliance.orchestrator.samples import sample_plan, sample_settings, sample_surroundings
from tests.fakes.fake_gpus import FakeInventory
from tests.fakes.fake_worker import Act, FakeModel, Script, answer
from tests.waiting import until

S = ReplicaState
LIFE = [S.STARTING, S.LOADING, S.READY]
CRASH = [S.STOPPING, S.FAILED]


class Stage:
    """One replica on a fake device, and what it went through."""

    def __init__(self, tmp_path: Path, database: Database) -> None:
        self.model_dir = tmp_path / "model"
        self.model_dir.mkdir()
        self.database = database
        self.inventory = FakeInventory()
        self.run_dir = prepare_run_dir(tmp_path / "run")
        self.states: list[ReplicaState] = []

    @asynccontextmanager
    async def replica(self, model: FakeModel | None = None, **changes: Any) -> AsyncIterator[Replica]:
        """Runs until the block is left, and then leaves nothing behind."""
        (model or FakeModel()).write(self.model_dir)
        replica = self.make(sample_settings(**changes))
        running = asyncio.create_task(replica.run())
        yield replica
        replica.stop(drain_s=0.0)
        async with asyncio.timeout(60):
            await running
        assert await self.rows() == []
        assert os.listdir(self.run_dir) == []

    def make(self, settings: FleetSettings) -> Replica:
        load = sample_plan().load
        plan = sample_plan(load=Load(model_dir=str(self.model_dir), file_sha256={}, settings=load.settings))
        return Replica(plan, sample_surroundings(settings, self.database, self.inventory, self.run_dir), self._note)

    async def rows(self) -> list[ReplicaRow]:
        async with self.database.reader() as db:
            return await replicas.list_all(db)

    def _note(self, replica: Replica) -> None:
        if not self.states or self.states[-1] is not replica.state:
            self.states.append(replica.state)


@pytest.fixture
def stage(tmp_path: Path, database: Database) -> Stage:
    return Stage(tmp_path, database)


async def ask(replica: Replica, text: str, max_tokens: int | None = None) -> str:
    """One leased request, to its end."""
    client = replica.acquire()
    try:
        request = Submit(request_id=os.urandom(8).hex(), prompt=TextPrompt(text=text), max_tokens=max_tokens)
        async with aclosing(client.generate(request)) as outputs:
            return "".join([delta.text async for deltas in outputs for delta in deltas])
    finally:
        replica.release()


def pid_of(replica: Replica) -> int:
    assert replica.worker is not None
    return replica.worker.pid


async def until_ready_again(replica: Replica, pid: int) -> None:
    await until(lambda: replica.state is S.READY and pid_of(replica) != pid)


async def test_a_state_moves_only_along_the_table(stage: Stage) -> None:
    replica = stage.make(sample_settings())
    for before, after in product(ReplicaState, ReplicaState):
        replica.state = before
        if after in TRANSITIONS[before]:
            replica._move(after)
            assert replica.state is after
        else:
            with pytest.raises(AssertionError, match=f"{before} cannot become {after}"):
                replica._move(after)
            assert replica.state is before


async def test_it_starts_loads_serves_and_stops(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        assert await ask(replica, "hello") == answer("hello")
        (row,) = await stage.rows()
        identity = identify(pid_of(replica))
        assert identity is not None
        assert (row.pid, row.pid_started_ticks, row.boot_id) == identity
        assert row.device_ids == ["simulated-0"]
        assert replica.measurement is not None
    assert stage.states == [*LIFE, S.DRAINING, S.STOPPING, S.STOPPED]
    assert identify(row.pid) is None


async def test_the_worker_shows_what_it_is_in_the_process_list(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        command = await asyncio.to_thread(Path(f"/proc/{pid_of(replica)}/cmdline").read_text)
        assert "--kind llm --deployment accounts/acme/deployments/d --replica 0" in command.replace("\0", " ")


async def test_it_can_be_stopped_while_it_loads(stage: Stage) -> None:
    async with stage.replica(FakeModel(load="hang")) as replica:
        await until(lambda: replica.state is S.LOADING)
    assert stage.states == [S.STARTING, S.LOADING, S.STOPPING, S.STOPPED]


async def test_it_can_be_stopped_before_its_worker_spoke(stage: Stage) -> None:
    async with stage.replica(worker_command=[sys.executable, "-c", "import time; time.sleep(600)"]) as replica:
        await until(lambda: replica.state is S.STARTING and replica.worker is not None)
    assert stage.states == [S.STARTING, S.STOPPING, S.STOPPED]


async def test_it_can_be_stopped_while_it_waits_after_a_crash(stage: Stage) -> None:
    async with stage.replica(FakeModel(load="exit"), backoff_first_s=600.0, backoff_max_s=600.0) as replica:
        await until(lambda: replica.state is S.FAILED)
    assert stage.states == [S.STARTING, S.LOADING, *CRASH, S.STOPPED]


@pytest.mark.parametrize("num_tokens_before", [0, 1, 10], ids=["prefill", "first-token", "mid-stream"])
async def test_a_killed_worker_is_replaced_and_its_requests_end_at_once(stage: Stage, num_tokens_before: int) -> None:
    # Its end is noticed, not its silence.
    async with stage.replica(FakeModel(step_ms=5.0), heartbeat_timeout_s=600.0) as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        script = Script(num_tokens=10**6, prefill_ms=1e9 if num_tokens_before == 0 else 0.0)
        client = replica.acquire()
        outputs = client.generate(Submit(request_id="r", prompt=TextPrompt(text=script.text())))
        num_tokens_seen = 0

        async def consume() -> None:
            nonlocal num_tokens_seen
            async for deltas in outputs:
                num_tokens_seen += sum(len(delta.token_ids) for delta in deltas)

        consuming = asyncio.create_task(consume())
        await until(lambda: client.num_in_flight == 1 and num_tokens_seen >= num_tokens_before)

        os.kill(pid, signal.SIGKILL)
        with pytest.raises(HearthError) as raised:
            await consuming
        assert raised.value.reason == "WORKER_LOST"
        replica.release()

        await until_ready_again(replica, pid)
        assert await ask(replica, "hello") == answer("hello")
        assert replica.reason == "the worker was ended by SIGKILL"
    assert stage.states == [*LIFE, *CRASH, *LIFE, S.DRAINING, S.STOPPING, S.STOPPED]


async def test_a_worker_killed_while_idle_is_replaced(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        os.kill(pid, signal.SIGKILL)
        await until_ready_again(replica, pid)


async def test_a_worker_killed_while_it_loads_is_replaced(stage: Stage) -> None:
    async with stage.replica(FakeModel(load="hang")) as replica:
        await until(lambda: replica.state is S.LOADING)
        pid = pid_of(replica)
        FakeModel().write(stage.model_dir)
        os.kill(pid, signal.SIGKILL)
        await until_ready_again(replica, pid)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Act.EXIT, "exited with status 3"),
        (Act.SEGV, "ended by SIGSEGV"),
        (Act.CLOSE, "closed its connection"),
        (Act.GARBAGE, "broke the protocol"),
        (Act.OVERSIZE, "broke the protocol"),
        (Act.UNKNOWN_REQUEST, "broke the protocol"),
        (Act.REPEAT_FINISH, "broke the protocol"),
    ],
)
async def test_a_worker_that_misbehaves_is_replaced(stage: Stage, act: Act, reason: str) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        try:
            await ask(replica, Script(act=act, at=2).text())
        except HearthError as error:
            assert error.reason == "WORKER_LOST"  # noqa: PT017 - what was repeated may have ended well the first time
        await until_ready_again(replica, pid)
        assert reason in replica.reason
        assert identify(pid) is None
        assert await ask(replica, "hello") == answer("hello")


@pytest.mark.parametrize(
    ("act", "reason"),
    [(Act.HANG, "was silent"), (Act.FALL_SILENT, "was silent"), (Act.STAND_STILL, "stood still")],
)
async def test_a_worker_without_signs_of_life_is_replaced(stage: Stage, act: Act, reason: str) -> None:
    async with stage.replica(heartbeat_timeout_s=2.0) as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        with pytest.raises(HearthError, match="ended"):
            await ask(replica, Script(num_tokens=10**6, act=act, at=2).text())
        await until_ready_again(replica, pid)
        assert reason in replica.reason


async def test_a_lost_connection_takes_no_request_even_before_the_state_says_so(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.is_ready)
        client = replica.client
        assert client is not None
        with pytest.raises(HearthError, match="ended"):
            await ask(replica, Script(act=Act.CLOSE).text())
        assert client.lost.done()
        assert not replica.is_ready


async def test_a_worker_that_cannot_be_recorded_is_not_used(stage: Stage) -> None:
    stage.database.failed.set()
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.FAILED)
        assert "could not be recorded" in replica.reason
        stage.database.failed.clear()
        await until(lambda: replica.state is S.READY)
    assert S.LOADING not in stage.states[: stage.states.index(S.FAILED)]


async def test_a_stopped_process_is_replaced(stage: Stage) -> None:
    async with stage.replica(heartbeat_timeout_s=2.0) as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        os.kill(pid, signal.SIGSTOP)
        await until_ready_again(replica, pid)


async def test_a_load_without_progress_is_ended(stage: Stage) -> None:
    async with stage.replica(FakeModel(load="hang"), load_stall_timeout_s=0.5) as replica:
        await until(lambda: replica.state is S.FAILED)
        assert replica.reason == "no progress in LOADING for 0.5 s"


async def test_a_slow_load_with_progress_is_let_be(stage: Stage) -> None:
    async with stage.replica(FakeModel(load_s=2.0), load_stall_timeout_s=1.5) as replica:
        await until(lambda: replica.state is S.READY)
    assert stage.states[:3] == LIFE


async def test_one_failing_request_ends_alone(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        other = asyncio.create_task(ask(replica, "hello"))
        with pytest.raises(HearthError, match="as asked"):
            await ask(replica, Script(act=Act.FAIL).text())
        assert await other == answer("hello")
    assert stage.states[:4] == [*LIFE, S.DRAINING]


async def test_a_crash_loop_gives_up_with_the_reason_and_the_last_words(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    model = FakeModel(load="exit", exit_status=9, log_lines=["CUDA error: out of luck"])
    async with stage.replica(model, crashes_max=3) as replica:
        await until(lambda: replica.has_given_up)
        assert replica.reason == "the worker exited with status 9"
        assert replica.worker is not None
        assert list(replica.worker.log.lines) == ["CUDA error: out of luck"]
    assert stage.states == 3 * [S.STARTING, S.LOADING, *CRASH]
    assert "has given up: the worker exited with status 9\nCUDA error: out of luck" in caplog.text


async def test_a_refused_model_is_not_tried_again(stage: Stage) -> None:
    async with stage.replica(FakeModel(load="refuse")) as replica:
        await until(lambda: replica.has_given_up)
        assert replica.reason == "the fake model is not to be served"
    assert stage.states == [S.STARTING, S.LOADING, *CRASH]


async def test_a_load_that_failed_by_accident_is_tried_again(stage: Stage) -> None:
    async with stage.replica(FakeModel(load="fail")) as replica:
        await until(lambda: replica.state is S.FAILED)
        FakeModel().write(stage.model_dir)
        await until(lambda: replica.state is S.READY)
        assert replica.reason == "RuntimeError while loading"


async def test_a_worker_command_that_cannot_be_run_is_a_crash(stage: Stage) -> None:
    async with stage.replica(worker_command=["/nonexistent/worker"], crashes_max=2) as replica:
        await until(lambda: replica.has_given_up)
        assert replica.reason == "the worker cannot be started: No such file or directory"
    assert stage.states == 2 * [S.STARTING, *CRASH]


async def test_draining_lets_leased_requests_finish_and_takes_no_new_ones(stage: Stage) -> None:
    async with stage.replica(FakeModel(step_ms=20.0)) as replica:
        await until(lambda: replica.state is S.READY)
        asking = asyncio.create_task(ask(replica, "hello"))
        await until(lambda: replica.load == 1)
        replica.stop(drain_s=60.0)
        await until(lambda: replica.state is S.DRAINING)
        with pytest.raises(AssertionError, match="DRAINING"):
            replica.acquire()
        assert await asking == answer("hello")
        await until(lambda: replica.state is S.STOPPED)


async def test_draining_has_an_end(stage: Stage) -> None:
    async with stage.replica(FakeModel(step_ms=20.0)) as replica:
        await until(lambda: replica.state is S.READY)
        asking = asyncio.create_task(ask(replica, Script(num_tokens=10**6).text()))
        await until(lambda: replica.load == 1)
        replica.stop(drain_s=0.05)
        with pytest.raises(HearthError) as raised:
            await asking
        assert raised.value.reason == "WORKER_STOPPED"


async def test_a_worker_that_ignores_shutdown_is_killed(stage: Stage) -> None:
    async with stage.replica(FakeModel(exit_on_shutdown=False), stop_timeout_s=0.05) as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
    assert identify(pid) is None


async def test_it_is_stopped_only_when_the_memory_is_back(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        stage.inventory.used["simulated-0"] = {pid: 1}
        replica.stop(drain_s=0.0)
        await until(lambda: identify(pid) is None)
        assert replica.state is S.STOPPING
        assert [row.pid for row in await stage.rows()] == [pid]
        stage.inventory.used["simulated-0"] = {}


async def test_it_sleeps_and_wakes_with_the_same_worker(stage: Stage) -> None:
    async with stage.replica(FakeModel(step_ms=20.0, host_bytes=7)) as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        asking = asyncio.create_task(ask(replica, "hello"))
        await until(lambda: replica.load == 1)
        replica.sleep()
        assert (replica.is_leaving, replica.is_falling_asleep, replica.is_ready) == (True, True, False)
        await until(lambda: replica.is_asleep)
        assert await asking == answer("hello"), "what ran has finished"
        assert (replica.host_bytes, replica.held_bytes, replica.is_leaving) == (7, 0, False)
        replica.wake()
        assert replica.held_bytes == replica.plan.reserved_bytes
        await until(lambda: replica.is_ready)
        assert await ask(replica, "again") == answer("again")
        assert pid_of(replica) == pid
    assert stage.states == [*LIFE, S.DRAINING, S.ASLEEP, S.LOADING, S.READY, S.DRAINING, S.STOPPING, S.STOPPED]


async def test_what_a_sleeping_worker_cannot_give_back_is_measured(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        stage.inventory.is_answering = False
        replica.sleep()
        await until(lambda: replica.is_asleep)
        assert replica.residual_bytes == replica.plan.reserved_bytes, "nobody knows, so it has given back nothing"
        stage.inventory.is_answering = True


async def test_it_can_be_stopped_while_it_sleeps(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        replica.sleep()
        await until(lambda: replica.is_asleep)
    assert stage.states == [*LIFE, S.DRAINING, S.ASLEEP, S.STOPPING, S.STOPPED]


async def test_a_worker_that_dies_in_its_sleep_is_not_replaced(stage: Stage) -> None:
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        replica.sleep()
        await until(lambda: replica.is_asleep)
        os.kill(pid_of(replica), signal.SIGKILL)
        await until(lambda: replica.state is S.STOPPED)
    assert S.FAILED not in stage.states


@pytest.mark.parametrize("sleep", ["exit", "hang"])
async def test_a_worker_that_does_not_fall_asleep_is_ended(stage: Stage, sleep: Literal["exit", "hang"]) -> None:
    async with stage.replica(FakeModel(sleep=sleep), load_stall_timeout_s=0.5) as replica:
        await until(lambda: replica.state is S.READY)
        replica.sleep()
        await until(lambda: replica.state is S.STOPPED)
    assert stage.states == [*LIFE, S.DRAINING, S.STOPPING, S.STOPPED]


async def test_draining_without_end_can_be_cut_short_and_not_prolonged(stage: Stage) -> None:
    async with stage.replica(FakeModel(step_ms=20.0)) as replica:
        await until(lambda: replica.state is S.READY)
        asking = asyncio.create_task(ask(replica, Script(num_tokens=10**6).text()))
        await until(lambda: replica.load == 1)
        replica.stop(None)
        await until(lambda: replica.state is S.DRAINING)
        replica.stop(0.05)
        replica.stop(600.0)
        replica.stop(None)
        with pytest.raises(HearthError) as raised:
            await asking
        assert raised.value.reason == "WORKER_STOPPED"


async def test_the_kill_of_an_idle_worker_that_has_served_is_no_crash(stage: Stage) -> None:
    async with stage.replica(crashes_max=1, settled_s=0.0) as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        os.kill(pid, signal.SIGKILL)
        await until_ready_again(replica, pid)


async def test_a_crash_with_a_request_in_flight_counts_however_long_it_had_served(stage: Stage) -> None:
    async with stage.replica(crashes_max=1, settled_s=0.0) as replica:
        await until(lambda: replica.state is S.READY)
        with pytest.raises(HearthError):
            await ask(replica, Script(act=Act.SEGV, at=2).text())
        await until(lambda: replica.has_given_up)


async def test_one_whose_memory_does_not_come_back_gives_up_its_place(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.orchestrator.replica.MEMORY_RETURN_TIMEOUT_S", 0.1)
    async with stage.replica() as replica:
        await until(lambda: replica.state is S.READY)
        pid = pid_of(replica)
        stage.inventory.used["simulated-0"] = {pid: 1}
        os.kill(pid, signal.SIGKILL)
        await until(lambda: replica.state is S.STOPPED)
        assert replica.unreturned == {"simulated-0": pid}
        assert not replica.has_given_up
