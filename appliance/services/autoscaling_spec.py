"""What may be asked of a deployment's autoscaling: windows, load targets, schedules. Pure.

A rule is broken or not; what is broken is a parameter's wire name and a sentence.
"""

from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from appliance.domain import AutoscalingPolicy, LoadTarget, ScalingSchedule
from appliance.orchestrator.schedules import check_schedule

POLICY = "autoscalingPolicy"
WINDOW_S_MAX = 3600.0
SCHEDULES_MAX = 32
SCHEDULE_NAME_LENGTH_MAX = 63
DESCRIPTION_LENGTH_MAX = 1000


class Violation(NamedTuple):
    param: str
    rule: str


def policy_violations(
    policy: AutoscalingPolicy, max_replica_count: int, min_scale_to_zero_window_s: float
) -> Iterator[Violation]:
    """`min_scale_to_zero_window_s` is the setting of that name."""
    for name, window_s in (
        ("scaleUpWindow", policy.scale_up_window_s),
        ("scaleDownWindow", policy.scale_down_window_s),
    ):
        if not 0 <= window_s <= WINDOW_S_MAX:
            yield Violation(f"{POLICY}.{name}", f"between 0s and {WINDOW_S_MAX:g}s, not {window_s:g}s")
    if policy.scale_to_zero_window_s < min_scale_to_zero_window_s:
        yield Violation(
            f"{POLICY}.scaleToZeroWindow",
            f"at least {min_scale_to_zero_window_s:g}s, not {policy.scale_to_zero_window_s:g}s;"
            " the minimum is this box's setting min_scale_to_zero_window_s",
        )
    for target, value in policy.load_targets.items():
        if target is LoadTarget.DEFAULT and not 0 < value <= 1:
            yield Violation(f"{POLICY}.loadTargets.{target}", f"a share above 0 and up to 1, not {value:g}")
        elif not (value > 0 and isfinite(value)):
            yield Violation(f"{POLICY}.loadTargets.{target}", f"more than 0, not {value:g}")
    if len(policy.scaling_schedules) > SCHEDULES_MAX:
        yield Violation(f"{POLICY}.scalingSchedules", f"at most {SCHEDULES_MAX}")
    for name, schedule in policy.scaling_schedules.items():
        if not 1 <= len(name) <= SCHEDULE_NAME_LENGTH_MAX:
            yield Violation(f"{POLICY}.scalingSchedules", f"names of 1 to {SCHEDULE_NAME_LENGTH_MAX} characters")
        else:
            yield from _schedule_violations(f"{POLICY}.scalingSchedules.{name}", schedule, max_replica_count)


def read_load_targets(values: dict[str, float]) -> dict[LoadTarget, float]:
    """Raises ValueError naming a key that is no load target."""
    known = set(LoadTarget)
    for key in values:
        if key not in known:
            raise ValueError(f"{key!r} is no load target; there is {', '.join(LoadTarget)}")
    return msgspec.convert(values, dict[LoadTarget, float])


def _schedule_violations(path: str, schedule: ScalingSchedule, max_replica_count: int) -> Iterator[Violation]:
    if not 0 <= schedule.min_replica_count <= max_replica_count:
        yield Violation(
            f"{path}.minReplicaCount", f"between 0 and the deployment's maxReplicaCount {max_replica_count}"
        )
    if schedule.duration_s <= 0:
        yield Violation(f"{path}.duration", "more than 0s")
    if len(schedule.description) > DESCRIPTION_LENGTH_MAX:
        yield Violation(f"{path}.description", f"at most {DESCRIPTION_LENGTH_MAX} characters")
    if not _is_timezone(schedule.timezone):
        yield Violation(f"{path}.timezone", f"{schedule.timezone[:40]!r} is none; for example UTC or Europe/Berlin")
        return
    try:
        check_schedule(schedule)
    except ValueError as error:
        yield Violation(f"{path}.schedule", f"five cron fields such as `0 8 * * 1-5`: {error}")


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # not there; not a name; a directory, or a name too long
        return False
    return True
