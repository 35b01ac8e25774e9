import pytest

from appliance.services.clock_watch import JUMP_S, ClockWatch
from tests.fakes.fake_clock import FakeClock


class Clocks:
    """Both clocks, which go together unless one jumps."""

    def __init__(self) -> None:
        self.monotonic, self.wall = FakeClock(500.0), FakeClock()
        self.watch = ClockWatch(self.monotonic, self.wall)

    def pass_(self, seconds: float) -> None:
        self.monotonic.advance(seconds)
        self.wall.advance(seconds)


def test_time_that_passes_is_no_jump() -> None:
    clocks = Clocks()
    for seconds in (0.0, 1.0, 86400.0):
        clocks.pass_(seconds)
        assert clocks.watch.look() == 0.0
    assert clocks.watch.settled_s == 86401.0
    assert clocks.watch.now == clocks.wall.now


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 10 * 365 * 86400.0, -10 * 365 * 86400.0])
def test_a_jump_is_told_once_and_unsettles_the_clock(jump_s: float) -> None:
    clocks = Clocks()
    clocks.pass_(1000.0)
    clocks.wall.now += jump_s
    clocks.pass_(2.0)
    assert clocks.watch.look() == pytest.approx(jump_s)
    assert clocks.watch.settled_s == 0.0
    clocks.pass_(5.0)
    assert clocks.watch.look() == 0.0
    assert clocks.watch.settled_s == 5.0


def test_small_corrections_are_not_jumps() -> None:
    clocks = Clocks()
    for _ in range(20):
        clocks.pass_(1.0)
        clocks.wall.now += 0.9 * JUMP_S
        assert clocks.watch.look() == 0.0


def test_a_machine_that_slept_did_not_use_the_time() -> None:
    """The monotonic clock stands still meanwhile."""
    clocks = Clocks()
    clocks.wall.advance(8 * 3600.0)
    assert clocks.watch.look() == 8 * 3600.0
