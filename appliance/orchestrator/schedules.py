"""When a deployment's scaling schedules are in force, and the minimum they ask for meanwhile. Pure; times are unix
seconds of the wall clock, since that is what cron speaks of.

A schedule is in force from each time its cron expression names, in its own time zone, for its duration: so many real
seconds, whatever summer time does to the clock. A time that summer time skips is an hour later, one that comes twice
counts twice.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.cron import CronTrigger

from appliance.domain import Deployment, ScalingSchedule
from appliance.orchestrator.fleet import Fact

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MICROSECOND = timedelta(microseconds=1)


class ScheduledMinimum(Fact, frozen=True):
    """Holds from when it was asked for until `until`."""

    count: int
    """0 when no schedule is in force."""
    schedule_id: str
    """Whose minimum it is; empty when none is in force."""
    until: float


def scheduled_minimum(schedules: Mapping[str, ScalingSchedule], now: float) -> ScheduledMinimum:
    """Of schedules that overlap the largest minimum; disabled ones are as if they were not there."""
    count, schedule_id, until = 0, "", math.inf
    for each_id, schedule in sorted(schedules.items()):
        if schedule.is_disabled:
            continue
        begins_at = _first_beginning(schedule, now - schedule.duration_s)
        is_in_force = begins_at <= now
        until = min(until, begins_at + schedule.duration_s if is_in_force else begins_at)
        if is_in_force and schedule.min_replica_count > count:
            count, schedule_id = schedule.min_replica_count, each_id
    return ScheduledMinimum(count, schedule_id, until)


def guaranteed_count(deployment: Deployment, now: float) -> int:
    """Replicas that nobody takes away to make room: its own minimum, or that of the schedules in force."""
    scheduled = min(
        scheduled_minimum(deployment.autoscaling.scaling_schedules, now).count, deployment.max_replica_count
    )
    return max(deployment.min_replica_count, scheduled)


def check_schedule(schedule: ScalingSchedule) -> None:
    """Raises ValueError saying what of its cron expression or time zone cannot be carried out."""
    if _first_beginning(schedule, after=0.0) == math.inf:
        raise ValueError(f"{schedule.schedule!r} names no day that ever comes")


def _first_beginning(schedule: ScalingSchedule, after: float) -> float:
    """Of those later than `after`; infinite when there is none."""
    start = datetime.fromtimestamp(after, UTC) + _MICROSECOND
    found = [trigger.get_next_fire_time(None, start) for trigger in _triggers(schedule)]
    return min((time.timestamp() for time in found if time is not None), default=math.inf)


def _triggers(schedule: ScalingSchedule) -> list[CronTrigger]:
    """One, or two when both days are restricted: then either is enough, as crontab has it."""
    fields = schedule.schedule.split()
    if len(fields) != 5:
        raise ValueError(f"a schedule has five fields, not {len(fields)}: minute, hour, day, month, day of the week")
    minute, hour, day, month, weekday = fields
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no time zone {schedule.timezone!r}") from error
    days = [(day, _name_weekdays(weekday))]
    if not day.startswith("*") and not weekday.startswith("*"):
        days = [(day, "*"), ("*", _name_weekdays(weekday))]
    return [
        CronTrigger(minute=minute, hour=hour, day=day, month=month.lower(), day_of_week=weekday, timezone=zone)
        for day, weekday in days
    ]


def _name_weekdays(field: str) -> str:
    """The library counts from Monday, crontab from Sunday; names leave no doubt."""
    if field == "*":
        return field
    found = {number % 7 for part in field.lower().split(",") for number in _weekdays_of(part)}
    return ",".join(_WEEKDAYS[number] for number in sorted(found))


def _weekdays_of(part: str) -> range:
    """Of `3`, `mon`, `1-5`, `fri-sun`, `*/2` and the like; Sunday is 0, and 7 at the end of a range."""
    days, _, step = part.partition("/")
    first, is_range, last = days.partition("-")
    if days == "*":
        begin, end = 0, 6
    else:
        begin = _weekday_number(first)
        end = _weekday_number(last) if is_range else (6 if step else begin)
        end = 7 if end == 0 and is_range else end
    if end < begin or (step and (not step.isdecimal() or step == "0")):
        raise ValueError(f"{part!r} names no days of the week")
    return range(begin, end + 1, int(step or 1))


def _weekday_number(text: str) -> int:
    if text in _WEEKDAYS:
        return _WEEKDAYS.index(text)
    if len(text) == 1 and text in "01234567":
        return int(text)
    raise ValueError(f"{text!r} is no day of the week")
