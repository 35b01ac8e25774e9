import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import DeploymentState
from appliance.services.deployment_lifecycle import SETTLED_S, due, touched_at
from tests.appliance.services.samples import deployment

NOW = 1_800_000_000.0
WEEK_S = 7 * 86400.0


def why(settled_s: float = 1e9, **fields: object) -> str:
    defaults: dict[str, object] = {"created_at": NOW - 2 * WEEK_S, "updated_at": NOW - 2 * WEEK_S}
    return due(deployment("acme", "fast", "accounts/acme/models/poet", **(defaults | fields)), NOW, settled_s)


def test_unused_for_its_time_counted_from_last_use() -> None:
    assert why(last_used_at=NOW - WEEK_S) == "unused for 604800 s"
    assert not why(last_used_at=NOW - WEEK_S + 1)


def test_never_used_counts_from_creation() -> None:
    assert why(created_at=NOW - WEEK_S)
    assert not why(created_at=NOW - WEEK_S + 1)


def test_a_persons_change_counts_as_use_so_that_an_undeleted_one_stays() -> None:
    assert not why(last_used_at=NOW - 2 * WEEK_S, updated_at=NOW - 1)


def test_a_duration_of_zero_disables_it() -> None:
    assert not why(auto_delete_s=0.0)


def test_a_minimum_of_replicas_keeps_it() -> None:
    assert not why(min_replica_count=1)


def test_at_its_expire_time_however_much_it_is_used() -> None:
    assert why(expires_at=NOW, last_used_at=NOW, min_replica_count=1) == "its expireTime is over"
    assert not why(expires_at=NOW + 1, last_used_at=NOW)


@pytest.mark.parametrize("state", [DeploymentState.DELETING, DeploymentState.DELETED])
def test_what_is_leaving_is_left_alone(state: DeploymentState) -> None:
    assert not why(state=state, expires_at=NOW)


def test_an_unsettled_clock_ends_nothing_that_is_older_than_it_was_watched() -> None:
    assert not why(settled_s=SETTLED_S - 1, last_used_at=NOW - WEEK_S)
    assert why(settled_s=SETTLED_S, last_used_at=NOW - WEEK_S)
    assert not why(settled_s=1.0, expires_at=NOW - 1, created_at=NOW - WEEK_S)


def test_a_short_time_needs_only_its_own_length_of_watching() -> None:
    assert why(settled_s=3.0, auto_delete_s=3.0, last_used_at=NOW - 3.0)
    assert why(settled_s=3.0, created_at=NOW - 3.0, updated_at=NOW - 3.0, expires_at=NOW)


def test_times_that_are_yet_to_come_say_nothing() -> None:
    assert why(last_used_at=NOW - WEEK_S, created_at=NOW + 1e9, updated_at=NOW + 1e9)
    assert not why(created_at=NOW + 1e9, updated_at=NOW + 1e9)


@given(st.lists(st.floats(0.0, 4e9), min_size=3, max_size=3), st.floats(0.0, 4e9))
def test_the_last_touch_is_never_in_the_future(times: list[float], now: float) -> None:
    created_at, updated_at, last_used_at = times
    row = deployment("acme", "fast", "m", created_at=created_at, updated_at=updated_at, last_used_at=last_used_at)
    assert touched_at(row, now) <= now
