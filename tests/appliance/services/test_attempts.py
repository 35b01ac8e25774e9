"""One request and the workers that end under it. The router and its workers follow a script."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, FleetSettings
from appliance.domain import Deployment
from appliance.errors import Code, HearthError
from appliance.live_config import LiveConfig
from appliance.orchestrator.router import NotWanted
from appliance.orchestrator.worker_client import WORKER_LOST, WORKER_STOPPED
from appliance.services.attempts import Attempts, Generating
from runtime.protocol import Delta, Submit
from runtime.submission import TextPrompt
from tests.appliance.orchestrator.samples import sample_deployment
from tests.fakes.fake_router import ANSWER, FakeRouter, answer_in_words
from tests.waiting import until

DEPLOYMENT = sample_deployment()
_numbers = itertools.count()


class World:
    """Attempts over a scripted router; `plan` says how the tries of a text end, one after the other, then it is
    answered."""

    def __init__(self, tmp_path: Path, **fleet: Any) -> None:
        self.plan: dict[str, list[str]] = {}
        self.tries: list[str] = []
        self.num_running = self.num_running_max = 0
        self.woken: list[Deployment] = []
        self.router = FakeRouter(self._answer)
        config = Config(data_dir=tmp_path, fleet=FleetSettings(**fleet))
        self.attempts = Attempts(LiveConfig(config), self.router, self._wake)

    async def ask(self, text: str, wait_s: float = 10.0) -> str:
        submit = Submit(request_id=f"r{next(_numbers)}", prompt=TextPrompt(text=text))
        attempt = Generating(deployment=DEPLOYMENT, task=submit, affinity_key=None, wait_s=wait_s)
        async with aclosing(self.attempts.run(attempt)) as outputs:
            return "".join([delta.text async for deltas in outputs for delta in deltas])

    async def failure(self, text: str) -> HearthError:
        with pytest.raises(HearthError) as raised:
            await self.ask(text)
        return raised.value

    async def _answer(self, submit: Submit) -> AsyncGenerator[list[Delta], None]:
        assert isinstance(submit.prompt, TextPrompt)
        text = submit.prompt.text
        self.tries.append(text)
        self.num_running += 1
        self.num_running_max = max(self.num_running, self.num_running_max)
        try:
            await asyncio.sleep(0.002)
            match self.plan.get(text, []) and self.plan[text].pop(0):
                case "crash":
                    raise HearthError(Code.UNAVAILABLE, "it ended", reason=WORKER_LOST)
                case "stop":
                    raise HearthError(Code.UNAVAILABLE, "it was stopped", reason=WORKER_STOPPED)
                case "refuse":
                    raise HearthError(Code.INVALID, "no")
                case "crash late":
                    yield [Delta(request_id=submit.request_id, text="Hel")]
                    raise HearthError(Code.UNAVAILABLE, "it ended", reason=WORKER_LOST)
            async for deltas in answer_in_words(submit):
                yield deltas
        finally:
            self.num_running -= 1

    async def _wake(self, deployment: Deployment) -> None:
        self.woken.append(deployment)
        self.router.refusal = None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("ending", ["crash", "stop"])
async def test_what_has_not_begun_is_tried_once_more(world: World, ending: str) -> None:
    world.plan["hello"] = [ending]
    assert await world.ask("hello") == ANSWER
    assert len(world.router.leases) == 2
    assert world.router.num_leased == 0


async def test_what_has_begun_ends_with_the_error(world: World) -> None:
    world.plan["hello"] = ["crash late"]
    assert (await world.failure("hello")).reason == WORKER_LOST
    assert world.tries == ["hello"]


async def test_other_errors_are_not_tried_again(world: World) -> None:
    world.plan["hello"] = ["refuse"]
    assert (await world.failure("hello")).code is Code.INVALID
    assert world.tries == ["hello"]


async def test_stops_on_purpose_end_after_the_last_retry_and_are_no_crashes(world: World) -> None:
    for _ in range(3):
        world.plan["hello"] = ["stop", "stop"]
        assert (await world.failure("hello")).reason == WORKER_STOPPED
    assert await world.ask("hello") == ANSWER


async def test_a_request_that_crashed_two_workers_is_refused_and_refused_when_it_comes_again(world: World) -> None:
    world.plan["deadly"] = ["crash"] * 9
    for _ in range(3):
        refused = await world.failure("deadly")
        assert (refused.code, refused.reason) == (Code.INVALID, "POISON")
    assert len(world.tries) == 2
    assert await world.ask("harmless") == ANSWER


async def test_crashes_after_the_beginning_count_when_the_request_comes_again(world: World) -> None:
    world.plan["deadly"] = ["crash late", "crash late", "crash late"]
    reasons = [(await world.failure("deadly")).reason for _ in range(3)]
    assert reasons == [WORKER_LOST, "POISON", "POISON"]
    assert len(world.tries) == 2


async def test_requests_that_were_there_by_chance_are_answered(world: World) -> None:
    """A crash ends all that a worker had; only the guilty one is there at the next crash, too."""
    innocent = [f"innocent {number}" for number in range(20)]
    world.plan = {"deadly": ["crash"] * 9} | {text: ["crash"] for text in innocent}
    asking = [asyncio.create_task(world.ask(text)) for text in innocent]
    refused = asyncio.create_task(world.failure("deadly"))
    assert await asyncio.gather(*asking) == [ANSWER] * 20
    assert (await refused).reason == "POISON"


async def test_suspects_are_tried_one_after_the_other(world: World) -> None:
    texts = [f"suspect {number}" for number in range(5)]
    world.plan = {text: ["crash late"] for text in texts}
    await asyncio.gather(*(world.failure(text) for text in texts))
    assert world.num_running_max == 5
    world.num_running_max = 0
    world.plan = {text: ["refuse"] for text in texts}
    await asyncio.gather(*(world.failure(text) for text in texts))
    assert world.num_running_max == 1


async def test_a_suspect_does_not_wait_for_its_turn_longer_than_for_a_replica(world: World) -> None:
    world.plan = {"a": ["crash late"], "b": ["crash late"]}
    await asyncio.gather(world.failure("a"), world.failure("b"))
    gate = asyncio.Event()

    async def stand_still(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        world.tries.append("still")
        await gate.wait()
        yield []

    world.router.script = stand_still
    first = asyncio.create_task(world.ask("a"))
    await until(lambda: "still" in world.tries)
    with pytest.raises(HearthError) as raised:
        await world.ask("b", wait_s=0.01)
    assert raised.value.retry_after_s
    gate.set()
    await first


async def test_what_is_put_to_sleep_while_a_request_waits_is_woken_again(world: World) -> None:
    world.router.refusal = NotWanted()
    assert await world.ask("hello", wait_s=10.0) == ANSWER
    assert world.woken == [DEPLOYMENT]
    first, second = world.router.leases
    assert first.wait_s == 10.0
    assert second.wait_s < 10.0, "all its waiting together has one limit"
