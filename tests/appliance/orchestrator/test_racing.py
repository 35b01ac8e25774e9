import asyncio

from appliance.orchestrator.racing import first_of, is_done_within


async def test_of_several_that_have_ended_the_first_named_counts() -> None:
    async def say(word: str) -> str:
        return word

    assert await first_of(say("a"), say("b")) == "a"


async def test_whoever_is_not_first_is_cancelled() -> None:
    forever = asyncio.Event()
    ended: list[str] = []

    async def wait() -> None:
        try:
            await forever.wait()
        finally:
            ended.append("waited")

    await first_of(wait(), asyncio.sleep(0.01))
    assert ended == ["waited"]


async def test_work_that_takes_too_long_is_cancelled() -> None:
    assert not await is_done_within(asyncio.Event().wait(), 0.01)
    assert await is_done_within(asyncio.sleep(0), 60)
