from typing import Any

import pytest

from appliance.domain import AutoscalingPolicy, LoadTarget, ScalingSchedule
from appliance.services.autoscaling_spec import SCHEDULES_MAX, policy_violations, read_load_targets

SCHEDULES = "autoscalingPolicy.scalingSchedules"


def violated(max_replica_count: int = 4, **policy: Any) -> list[str]:
    return [found.param for found in policy_violations(AutoscalingPolicy(**policy), max_replica_count, 300.0)]


def schedule(**changes: Any) -> ScalingSchedule:
    fields = {"min_replica_count": 2, "schedule": "0 8 * * 1-5", "duration_s": 3600.0, "timezone": "Europe/Berlin"}
    return ScalingSchedule(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"scale_up_window_s": 1.0, "scale_down_window_s": 0.0, "scale_to_zero_window_s": 300.0},
        {"scale_up_window_s": 3600.0, "scale_down_window_s": 3600.0},
        {"load_targets": {LoadTarget.DEFAULT: 1.0, LoadTarget.REQUESTS_PER_SECOND: 0.5}},
        {"scaling_schedules": {"mornings": schedule(), "nights": schedule(min_replica_count=0, timezone="UTC")}},
    ],
)
def test_what_can_be_carried_out_is_no_violation(policy: dict[str, Any]) -> None:
    assert violated(**policy) == []


@pytest.mark.parametrize(
    ("policy", "param"),
    [
        ({"scale_up_window_s": 3601.0}, "autoscalingPolicy.scaleUpWindow"),
        ({"scale_up_window_s": -1.0}, "autoscalingPolicy.scaleUpWindow"),
        ({"scale_down_window_s": 3601.0}, "autoscalingPolicy.scaleDownWindow"),
        ({"scale_to_zero_window_s": 299.0}, "autoscalingPolicy.scaleToZeroWindow"),
        ({"load_targets": {LoadTarget.DEFAULT: 1.1}}, "autoscalingPolicy.loadTargets.default"),
        ({"load_targets": {LoadTarget.DEFAULT: 0.0}}, "autoscalingPolicy.loadTargets.default"),
        (
            {"load_targets": {LoadTarget.CONCURRENT_REQUESTS: 0.0}},
            "autoscalingPolicy.loadTargets.concurrent_requests",
        ),
        (
            {"load_targets": {LoadTarget.TOKENS_GENERATED_PER_SECOND: float("inf")}},
            "autoscalingPolicy.loadTargets.tokens_generated_per_second",
        ),
        ({"scaling_schedules": {"": schedule()}}, SCHEDULES),
        ({"scaling_schedules": {str(number): schedule() for number in range(SCHEDULES_MAX + 1)}}, SCHEDULES),
        ({"scaling_schedules": {"x": schedule(min_replica_count=5)}}, f"{SCHEDULES}.x.minReplicaCount"),
        ({"scaling_schedules": {"x": schedule(duration_s=0.0)}}, f"{SCHEDULES}.x.duration"),
        ({"scaling_schedules": {"x": schedule(description="x" * 1001)}}, f"{SCHEDULES}.x.description"),
        ({"scaling_schedules": {"x": schedule(schedule="0 8 * *")}}, f"{SCHEDULES}.x.schedule"),
        ({"scaling_schedules": {"x": schedule(schedule="0 99 * * *")}}, f"{SCHEDULES}.x.schedule"),
        ({"scaling_schedules": {"x": schedule(schedule="every morning at eight")}}, f"{SCHEDULES}.x.schedule"),
        ({"scaling_schedules": {"x": schedule(timezone="Europe/Atlantis")}}, f"{SCHEDULES}.x.timezone"),
        ({"scaling_schedules": {"x": schedule(timezone="../../etc/passwd")}}, f"{SCHEDULES}.x.timezone"),
        ({"scaling_schedules": {"x": schedule(timezone="")}}, f"{SCHEDULES}.x.timezone"),
    ],
)
def test_what_cannot_be_is_named(policy: dict[str, Any], param: str) -> None:
    assert violated(**policy) == [param]


def test_a_window_to_zero_that_is_too_short_names_the_minimum_and_the_setting() -> None:
    (violation,) = policy_violations(AutoscalingPolicy(scale_to_zero_window_s=10.0), 1, 300.0)
    assert "300s" in violation.rule
    assert "min_scale_to_zero_window_s" in violation.rule
    assert not list(policy_violations(AutoscalingPolicy(scale_to_zero_window_s=2.0), 1, 2.0))


def test_load_targets_are_read_by_their_wire_names() -> None:
    assert read_load_targets({"default": 0.5}) == {LoadTarget.DEFAULT: 0.5}
    with pytest.raises(ValueError, match=r"'gpu_heat'.*tokens_generated_per_second"):
        read_load_targets({"gpu_heat": 1.0})
