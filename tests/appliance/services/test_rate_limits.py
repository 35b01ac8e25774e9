"""No minute holds more than its limit, wherever it begins."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.services.rate_limits import GRANULE_S, WINDOW_S, RateWindow

MOMENT_S = 1e-6
"""More than what floating point gets wrong."""

steps = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 5)), max_size=60)


@given(steps, st.integers(1, 10))
def test_no_minute_holds_more_than_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    window, now = RateWindow(), 1000.0
    taken: list[tuple[float, int]] = []
    for pause_s, wanted in steps:
        now += pause_s
        if window.wait_s(wanted, limit, now) == 0:
            window.take(wanted, now)
            taken.append((now, wanted))
    for start, _ in taken:
        assert sum(amount for at, amount in taken if start <= at < start + WINDOW_S) <= limit


@given(steps, st.integers(5, 10))
def test_what_is_refused_fits_after_the_wait_that_was_told(steps: list[tuple[float, int]], limit: int) -> None:
    window, now = RateWindow(), 0.0
    for pause_s, wanted in steps:
        now += pause_s
        wait_s = window.wait_s(wanted, limit, now)
        assert wait_s <= WINDOW_S + GRANULE_S + MOMENT_S
        if wait_s:
            assert window.wait_s(wanted, limit, now + wait_s / 2) > 0
            now += wait_s + MOMENT_S
            assert window.wait_s(wanted, limit, now) == 0
        window.take(wanted, now)


def test_more_than_the_whole_limit_never_fits() -> None:
    assert RateWindow().wait_s(11, 10, 0.0) == WINDOW_S


def test_less_than_was_taken_frees_room_at_once() -> None:
    window = RateWindow()
    taken = window.take(10, 0.0)
    window.correct(taken, -7, 30.0)
    assert window.amount(30.0) == 3
    assert window.amount(WINDOW_S + GRANULE_S) == 0


def test_more_than_was_taken_counts_from_when_it_is_known() -> None:
    window = RateWindow()
    taken = window.take(10, 0.0)
    window.correct(taken, 5, 30.0)
    assert window.amount(30.0) == 15
    assert window.amount(WINDOW_S + GRANULE_S) == 5


def test_a_correction_of_what_is_long_over_frees_nothing() -> None:
    window = RateWindow()
    taken = window.take(10, 0.0)
    window.take(4, 70.0)
    assert window.amount(70.0) == 4
    window.correct(taken, -10, 70.0)
    assert window.amount(70.0) == 4
