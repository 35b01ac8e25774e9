import asyncio

from appliance.orchestrator.quiet import Quiet


async def test_nothing_waits_where_nothing_has_ever_loaded() -> None:
    await asyncio.wait_for(Quiet(settle_s=600.0).wait(), 60)


async def test_it_waits_for_every_load_and_a_moment_longer() -> None:
    quiet = Quiet(settle_s=0.01)
    loop = asyncio.get_running_loop()
    with quiet.loading():
        with quiet.loading():
            waiting = asyncio.create_task(quiet.wait())
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.03)
        assert quiet.is_disturbed
        assert not waiting.done()
    ended_at = loop.time()
    await asyncio.wait_for(waiting, 60)
    assert loop.time() - ended_at >= 0.01


async def test_a_load_that_is_announced_is_waited_for() -> None:
    quiet = Quiet(settle_s=0.05)
    began_at = asyncio.get_running_loop().time()
    quiet.announce()
    await asyncio.wait_for(quiet.wait(), 60)
    assert asyncio.get_running_loop().time() - began_at >= 0.05
