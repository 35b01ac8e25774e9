import pytest

from appliance.cli.units import parse_bytes, readable_bytes, readable_duration
from appliance.errors import HearthError


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("20GiB", 20 * 2**30), ("1.5 gib", 1.5 * 2**30), ("512MiB", 2**29), ("8GB", 8 * 10**9), ("4096", 4096)],
)
def test_sizes_are_read_as_people_write_them(text: str, num_bytes: float) -> None:
    assert parse_bytes(text, "--memory") == num_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "20 gigs", "1e9", "20GiB!"])
def test_a_size_that_is_none_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(HearthError, match="--memory"):
        parse_bytes(text, "--memory")


def test_what_is_shown_has_the_unit_that_fits() -> None:
    assert [readable_bytes(size) for size in (2048, 3 * 2**20, 1.5 * 2**30)] == ["2 KiB", "3.0 MiB", "1.5 GiB"]
    times = [readable_duration(seconds) for seconds in (0.4, 119, 120, 7199, 7200, 3 * 86400)]
    assert times == ["0 s", "119 s", "2 min", "119 min", "2 h", "3 d"]
