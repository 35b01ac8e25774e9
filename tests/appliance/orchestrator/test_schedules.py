"""Cron begins, a duration ends; in the schedule's own time zone, summer time included."""

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.domain import AutoscalingPolicy, Deployment, DeploymentState, ScalingSchedule
from appliance.orchestrator.schedules import check_schedule, guaranteed_count, scheduled_minimum

HOUR_S = 3600.0
NEW_YORK = "America/New_York"


def schedule(
    cron: str, hours: float, count: int = 2, timezone: str = "UTC", is_disabled: bool = False
) -> ScalingSchedule:
    return ScalingSchedule(
        min_replica_count=count, schedule=cron, duration_s=hours * HOUR_S, timezone=timezone, is_disabled=is_disabled
    )


def at(text: str, timezone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone), fold=fold).timestamp()


def count_at(now: float, *schedules: ScalingSchedule) -> int:
    return scheduled_minimum({str(number): each for number, each in enumerate(schedules)}, now).count


def test_a_schedule_is_in_force_from_its_beginning_to_its_end_and_says_until_when() -> None:
    office = schedule("0 9 * * *", 8)
    assert count_at(at("2027-03-02T08:59:59.999"), office) == 0
    assert count_at(at("2027-03-02T09:00"), office) == 2
    assert count_at(at("2027-03-02T16:59:59.999"), office) == 2
    assert count_at(at("2027-03-02T17:00"), office) == 0
    assert scheduled_minimum({"office": office}, at("2027-03-02T10:00")).until == at("2027-03-02T17:00")
    assert scheduled_minimum({"office": office}, at("2027-03-02T17:00")).until == at("2027-03-03T09:00")


def test_of_overlapping_schedules_the_largest_minimum_counts_and_disabled_ones_do_not() -> None:
    low, high, off = schedule("0 8 * * *", 4, 1), schedule("0 9 * * *", 1, 5), schedule("0 8 * * *", 9, 9, "UTC", True)
    assert [count_at(at(f"2027-03-02T{hour:02}:30"), low, high, off) for hour in (7, 8, 9, 10, 12)] == [0, 1, 5, 1, 0]
    found = scheduled_minimum({"low": low, "high": high}, at("2027-03-02T09:30"))
    assert (found.count, found.schedule_id, found.until) == (5, "high", at("2027-03-02T10:00"))


def test_a_schedule_longer_than_its_period_is_always_in_force() -> None:
    always = schedule("0 * * * *", 2)
    assert all(count_at(at("2027-03-02T00:00") + minute * 60.0, always) == 2 for minute in range(0, 600, 7))


def test_the_time_zone_is_the_schedules_own() -> None:
    morning = schedule("0 9 * * *", 1, timezone="Asia/Tokyo")
    assert count_at(at("2027-03-02T09:30", "Asia/Tokyo"), morning) == 2
    assert count_at(at("2027-03-02T09:30"), morning) == 0


def test_a_beginning_that_summer_time_skips_is_an_hour_later_and_lasts_as_long() -> None:
    night = schedule("30 2 * * *", 3, timezone=NEW_YORK)
    # On 14 March 2027 the clock goes from 2:00 to 3:00.
    assert count_at(at("2027-03-14T03:29", NEW_YORK), night) == 0
    assert count_at(at("2027-03-14T03:30", NEW_YORK), night) == 2
    assert scheduled_minimum({"": night}, at("2027-03-14T04:00", NEW_YORK)).until == at("2027-03-14T06:30", NEW_YORK)


def test_a_duration_across_the_end_of_summer_time_is_so_many_real_hours() -> None:
    # On 7 November 2027 the clock goes from 2:00 back to 1:00.
    night = schedule("0 22 * * *", 8, timezone=NEW_YORK)
    assert count_at(at("2027-11-07T04:59", NEW_YORK), night) == 2
    assert count_at(at("2027-11-07T05:00", NEW_YORK), night) == 0


def test_a_beginning_that_comes_twice_counts_twice() -> None:
    twice = schedule("30 1 * * *", 0.25, timezone=NEW_YORK)
    first, second = (at("2027-11-07T01:35", NEW_YORK, fold) for fold in (0, 1))
    assert second - first == HOUR_S
    assert [count_at(now, twice) for now in (first, first + HOUR_S / 2, second)] == [2, 0, 2]


@pytest.mark.parametrize(
    ("weekdays", "days"),
    [
        ("0", "Sun"),
        ("7", "Sun"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("5-7", "Fri Sat Sun"),
        ("mon,WED", "Mon Wed"),
        ("fri-sun", "Fri Sat Sun"),
        ("*/2", "Sun Tue Thu Sat"),
        ("1-5/2", "Mon Wed Fri"),
        ("4/2", "Thu Sat"),
    ],
)
def test_weekdays_are_counted_as_crontab_does(weekdays: str, days: str) -> None:
    noon = schedule(f"0 12 * * {weekdays}", 1)
    week = [at("2027-03-01T12:00") + day * 24 * HOUR_S for day in range(7)]
    found = {datetime.fromtimestamp(now, ZoneInfo("UTC")).strftime("%a") for now in week if count_at(now, noon)}
    assert found == set(days.split())


def test_with_both_days_restricted_either_is_enough() -> None:
    either = schedule("0 12 13 * 5", 1)
    assert count_at(at("2027-03-12T12:00"), either) == 2, "a Friday"
    assert count_at(at("2027-03-13T12:00"), either) == 2, "the 13th"
    assert count_at(at("2027-03-14T12:00"), either) == 0


def test_guaranteed_is_the_larger_minimum_within_the_maximum() -> None:
    schedules = {"noon": schedule("0 12 * * *", 1, count=3)}
    plain = Deployment(
        account_id="acme",
        id="fast",
        base_model="accounts/acme/models/poet",
        state=DeploymentState.READY,
        min_replica_count=1,
        max_replica_count=8,
        desired_replica_count=1,
        created_at=0.0,
        updated_at=0.0,
    )
    noon = at("2027-03-02T12:30")
    scheduled = replace(plain, autoscaling=AutoscalingPolicy(scaling_schedules=schedules))
    assert guaranteed_count(plain, noon) == 1
    assert guaranteed_count(scheduled, noon) == 3
    assert guaranteed_count(scheduled, noon + HOUR_S) == 1
    assert guaranteed_count(replace(scheduled, max_replica_count=2), noon) == 2


@pytest.mark.parametrize(
    ("cron", "timezone", "complaint"),
    [
        ("0 9 * *", "UTC", "five fields"),
        ("0 9 * * * *", "UTC", "five fields"),
        ("60 9 * * *", "UTC", "60"),
        ("0 9 * * 8", "UTC", "day of the week"),
        ("0 9 * * 5-2", "UTC", "days of the week"),
        ("0 9 * * */0", "UTC", "days of the week"),
        ("0 9 30 2 *", "UTC", "ever"),
        ("at nine", "UTC", "five fields"),
        ("a b c d e", "UTC", "day of the week"),
        ("0 9 * * *", "Mars/Olympus", "time zone"),
        ("0 9 * * *", "../../etc/passwd", "time zone"),
        ("0 9 * * *", "", "time zone"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_its_reason(cron: str, timezone: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_schedule(schedule(cron, 1, timezone=timezone))


@given(
    st.sampled_from(["0 9 * * 1-5", "*/20 * * * *", "30 2 * * *", "15 1 1 * 0"]),
    st.floats(0.01, 40.0),
    st.sampled_from(["UTC", NEW_YORK, "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.floats(at("2026-01-01T00:00"), at("2029-01-01T00:00")),
    st.floats(0.0, 1.0),
)
def test_what_it_says_holds_until_the_time_it_says(cron: str, hours: float, zone: str, now: float, part: float) -> None:
    schedules = {"one": schedule(cron, hours, 3, zone)}
    found = scheduled_minimum(schedules, now)
    assert now < found.until < math.inf
    between = now + part * (found.until - now) * 0.999
    assert scheduled_minimum(schedules, between).count == found.count
