import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.control.durations import DURATION_S_MAX, parse_duration, render_duration
from appliance.errors import HearthError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("168h0m0s", 604800.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("250ms", 0.25),
        ("1s500ms", 1.5),
        ("2us", 2e-6),
        ("0", 0.0),
        ("0s", 0.0),
    ],
)
def test_the_spellings_of_clients_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text, "window") == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize("text", ["", "90", "s", "-5s", "1d", "1h 30m", "5s\n", "1e3s", "soon", "٣s", "9" * 40 + "s"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(HearthError) as caught:
        parse_duration(text, "window")
    assert caught.value.param == "window"


def test_a_duration_has_an_end() -> None:
    assert parse_duration(render_duration(DURATION_S_MAX), "window") == DURATION_S_MAX
    with pytest.raises(HearthError, match="at most"):
        parse_duration("999999999999h", "window")


@pytest.mark.parametrize(("seconds", "text"), [(30.0, "30s"), (0.0, "0s"), (0.5, "0.5s"), (604800.0, "604800s")])
def test_durations_are_written_in_seconds(seconds: float, text: str) -> None:
    assert render_duration(seconds) == text


@given(st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000))
def test_what_is_written_reads_the_same(seconds: float) -> None:
    if seconds <= DURATION_S_MAX:
        assert parse_duration(render_duration(seconds), "window") == pytest.approx(seconds)
