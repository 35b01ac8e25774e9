import inspect
import json
from pathlib import Path

import pytest
import typer

from appliance.cli.deployment_options import (
    OPTIONS,
    read_fields,
    read_load_targets,
    read_time,
    with_deployment_options,
)


def test_a_command_takes_the_options_in_the_place_of_its_own_rest() -> None:
    @with_deployment_options
    def run(session: object, name: str, **options: object) -> None:
        """Does nothing."""

    assert list(inspect.signature(run).parameters) == ["session", "name", *OPTIONS]


def test_only_what_is_given_becomes_a_field() -> None:
    assert read_fields(dict.fromkeys(OPTIONS)) == {}
    assert read_fields({"display_name": "", "min_replica_count": 0, "pinned": False, "load_targets": []}) == {
        "display_name": "",
        "min_replica_count": 0,
        "pinned": False,
    }


def test_windows_and_targets_are_the_policys() -> None:
    options = {"scale_up_window": "1s", "scale_to_zero_window": "5m", "load_targets": ["default=0.5"]}
    policy = {"scaleUpWindow": "1s", "scaleToZeroWindow": "5m", "loadTargets": {"default": 0.5}}
    assert read_fields(options) == {"autoscalingPolicy": policy}
    assert read_fields({"region": "GLOBAL"}) == {"placement": {"region": "GLOBAL"}}


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "wish.json"
    file.write_text(json.dumps({"name": "n", "baseModel": "m", "pinned": True, "autoscalingPolicy": {"a": 1, "b": 2}}))
    fields = read_fields({"file": file, "scale_up_window": "1s", "pinned": False})
    assert fields == {"pinned": False, "autoscalingPolicy": {"a": 1, "b": 2, "scaleUpWindow": "1s"}}


def test_load_targets_are_pairs_repeated_or_separated_by_commas() -> None:
    assert read_load_targets(["default=0.5, requests_per_second=2", "concurrent_requests=7"]) == {
        "default": 0.5,
        "requests_per_second": 2.0,
        "concurrent_requests": 7.0,
    }
    for text in ("default", "default=", "default=much", ""):
        with pytest.raises(typer.BadParameter):
            read_load_targets([text])


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2030-01-02", "2030-01-02T00:00:00+00:00"),
        ("2030-01-02 03:04:05", "2030-01-02T03:04:05+00:00"),
        ("2030-01-02T03:04:05Z", "2030-01-02T03:04:05+00:00"),
        ("2030-01-02T03:04:05+02:00", "2030-01-02T03:04:05+02:00"),
        ("", None),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, time: str | None) -> None:
    assert read_time(text) == time


def test_a_time_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter):
        read_time("tomorrow")
