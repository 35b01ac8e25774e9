import re
import time
from datetime import UTC, datetime

import pytest

from appliance.cli.commands import Session
from appliance.cli.credentials import Asked
from appliance.cli.deployment_display import DECISIONS_SHOWN, show_deployment, show_deployments
from appliance.cli.output import OutputFormat
from appliance.sdk.deployments import (
    AutoscalingPolicy,
    Deployment,
    Replica,
    ReplicaStats,
    ScalingDecision,
    ScalingSchedule,
)
from appliance.sdk.resources import Status

TIME = "2030-01-02T03:04:05Z"
TEXT = Session(Asked(), OutputFormat.TEXT)


def deployment(**fields: object) -> Deployment:
    base = {"name": "accounts/acme/deployments/blue", "base_model": "accounts/acme/models/m", "state": "READY"}
    return Deployment(**(base | fields))  # type: ignore[arg-type]


def test_a_record_shows_what_is_set_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    schedule = ScalingSchedule(
        min_replica_count=2, schedule="0 8 * * *", duration="32400s", timezone="UTC", disabled=True
    )
    policy = AutoscalingPolicy(scale_up_window="1s", scale_to_zero_window="5430s", scaling_schedules={"day": schedule})
    show_deployment(TEXT, deployment(never_evicts=True, kv_cache_fraction=0.25, autoscaling_policy=policy))
    out = capsys.readouterr().out
    for line in (
        r"Never evicts: +yes",
        r"KV cache: +25% of its devices",
        r"Scaling windows: +up 1s, to zero 1h30m30s\n",
        r"Schedule day: +at least 2 for 9h from '0 8 \* \* \*' UTC \(disabled\)",
    ):
        assert re.search(line, out), line
    assert "Pinned" not in out
    assert "REPLICA" not in out


def test_replicas_are_a_table_that_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    since = datetime.fromtimestamp(time.time() - 600, UTC).isoformat()
    replicas = [
        Replica(
            index=0,
            state="READY",
            revision=2,
            device_ids=["GPU-0"],
            reserved_bytes=str(2**34),
            used_bytes=str(2**33),
            num_in_flight=3,
            ready_time=since,
            load_seconds=6.5,
            load_stages={"process": 0.25, "device": 0.0, "weights": 5.0, "weights/read": 4.5, "weights/copy": 1.0},
        ),
        Replica(index=1, state="LOADING", revision=1, device_ids=["GPU-1"], message="weights 50%"),
    ]
    show_deployment(TEXT, deployment(revision=2, replicas=replicas))
    shown = capsys.readouterr()
    assert re.search(r"0 +READY +GPU-0 +16.0 GiB +8.0 GiB +3 +10 min\n1 +LOADING, outdated +GPU-1", shown.out)
    assert max(len(line) for line in shown.out.splitlines()) <= 80
    assert "replica 1: weights 50%" in shown.err
    assert "replica 0: loaded in 6.50 s: process 0.25 s, weights 5.00 s (read 4.50, copy 1.00)" in shown.err
    assert "replica 1: loaded" not in shown.err


def test_the_newest_decisions_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    history = [
        ScalingDecision(time=TIME, from_replica_count=n, to_replica_count=n + 1, reason=f"because {n}")
        for n in range(20)
    ]
    show_deployment(TEXT, deployment(scaling_history=history))
    out = capsys.readouterr().out
    assert "2030-01-02 03:04:05 UTC  0 → 1     because 0\n" in out
    assert out.count("because") == DECISIONS_SHOWN


def test_a_list_notes_what_is_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    stats = ReplicaStats(ready_replica_count=1)
    waiting = deployment(status=Status(message="needs 31 GiB"), replica_stats=stats, desired_replica_count=2)
    show_deployments(TEXT, [waiting])
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].split() == ["blue", "accounts/acme/models/m", "READY", "1/2"]
    assert shown.err == "blue: needs 31 GiB\n"
