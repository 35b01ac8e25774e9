import asyncio
import logging
from datetime import datetime, tzinfo
from typing import Self

import apscheduler.schedulers.base
import pytest

from appliance.errors import Code, HearthError
from appliance.services.ticks import Ticks
from tests.fakes.fake_clock import FakeClock
from tests.waiting import until

INTERVAL_S = 0.01


class Work:
    """Counts its runs; waits in each while the gate is shut."""

    def __init__(self) -> None:
        self.num_begun = self.num_ended = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def run(self) -> None:
        self.num_begun += 1
        await self.gate.wait()
        self.num_ended += 1
        if self.error is not None:
            raise self.error


async def test_work_is_done_again_and_again_until_close() -> None:
    ticks, work = Ticks(), Work()
    ticks.add(work.run, INTERVAL_S)
    await ticks.start()
    await until(lambda: work.num_ended >= 3)
    await ticks.close()
    num_ended = work.num_ended
    others, other = Ticks(), Work()
    others.add(other.run, INTERVAL_S)
    await others.start()
    await until(lambda: other.num_ended >= 5)
    await others.close()
    assert work.num_ended == num_ended


async def test_no_tick_begins_before_the_last_of_its_kind_has_ended() -> None:
    ticks, slow, quick = Ticks(), Work(), Work()
    slow.gate.clear()
    ticks.add(slow.run, INTERVAL_S)
    ticks.add(quick.run, INTERVAL_S)
    await ticks.start()
    await until(lambda: quick.num_ended >= 5)
    assert slow.num_begun == 1
    slow.gate.set()
    await until(lambda: slow.num_ended >= 2)
    await ticks.close()


async def test_close_waits_for_what_is_under_way() -> None:
    ticks, work = Ticks(), Work()
    work.gate.clear()
    ticks.add(work.run, INTERVAL_S)
    await ticks.start()
    await until(lambda: work.num_begun == 1)
    closing = asyncio.create_task(ticks.close())
    await asyncio.sleep(0)
    assert not closing.done()
    work.gate.set()
    await closing
    assert work.num_ended == 1


@pytest.mark.parametrize("error", [HearthError(Code.UNAVAILABLE, "the disk is full"), ZeroDivisionError()])
async def test_an_error_is_logged_and_the_next_tick_comes(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    ticks, work = Ticks(), Work()
    work.error = error
    ticks.add(work.run, INTERVAL_S)
    with caplog.at_level(logging.ERROR):
        await ticks.start()
        await until(lambda: work.num_ended >= 2)
        await ticks.close()
    assert "a tick failed" in caplog.text
    assert type(error).__name__ in caplog.text


async def test_ticks_go_on_when_the_wall_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """APScheduler plans by the wall's clock, and alone would do nothing for a day."""
    wall = FakeClock()

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(wall.now, tz)

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", SetBack)
    ticks, work = Ticks(wall), Work()
    ticks.add(work.run, INTERVAL_S)
    await ticks.start()
    wall.now -= 86400.0

    def has_run_twice() -> bool:
        wall.advance(INTERVAL_S)
        return work.num_ended >= 2

    await until(has_run_twice)
    await ticks.close()
