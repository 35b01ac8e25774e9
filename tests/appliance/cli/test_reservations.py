from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_device_is_held_shown_and_given_back(hearth: Hearth) -> None:
    clusters: Any = hearth("list", "clusters", "-o", "json").json
    (kind,) = clusters[0]["acceleratorCounts"]
    made = hearth(
        "create", "reservation", "--accelerator-type", kind, "--reservation-id", "week", "--end-time", "2999-01-31"
    )
    assert made.exit_code == 0, made.err
    assert "State:" in made.out
    assert "ACTIVE" in made.out
    (row,) = [line.split() for line in hearth("list", "reservations").out.splitlines()[1:]]
    assert row[:4] == ["week", "ACTIVE", "1", kind]
    changed: Any = hearth("reservation", "update", "week", "--display-name", "Week", "-o", "json").json
    assert (changed["displayName"], changed["endTime"][:10]) == ("Week", "2999-01-31")
    assert hearth("get", "reservation", "week", "-o", "json").json == changed
    refused = hearth("create", "reservation", "--accelerator-type", kind, "--count", "99")
    assert (refused.exit_code, "reservedCount" in refused.err) == (1, True)
    assert hearth("delete", "reservation", "week").out == "Deleted week\n"
    assert hearth("delete", "reservation", "week").exit_code == 1


def test_the_box_is_shown_as_a_cluster(hearth: Hearth) -> None:
    assert "State:" in hearth("get", "cluster", "local").out
    assert "LOCAL" in hearth("list", "clusters").out
