import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.sdk.client import Client
from tests.appliance.cli.conftest import Hearth
from tests.fakes.fake_worker import FakeModel
from tests.fakes.terminal import CTRL_C


def test_a_deployment_is_created_shown_scaled_and_deleted(hearth: Hearth, model_id: str) -> None:
    created = hearth(
        *(
            "create",
            "deployment",
            model_id,
            "--deployment-id",
            "blue",
            "--display-name",
            "Blue",
            "--description",
            "Test",
        ),
        *("--min-replica-count", "1", "--max-replica-count", "2", "--precision", "FP32", "--max-context-length", "256"),
        *("--accelerator-type", "NVIDIA_H100_80GB", "--accelerator-count", "1", "--wait"),
    )
    assert created.exit_code == 0, created.err
    lines = [line.split(maxsplit=1) for line in created.out.splitlines()]
    for line in (
        ["Name:", "accounts/hearth/deployments/blue"],
        ["State:", "READY"],
        ["Replicas:", "1/1 ready"],
        ["Accelerators:", "1 × NVIDIA_H100_80GB"],
        ["Precision:", "FP32"],
    ):
        assert line in lines
    assert re.search(r"Replica limits: +1 to 2\n", created.out)
    assert "blue · CREATING" in created.err, "what was waited for"

    (row,) = [line.split() for line in hearth("list", "deployments").out.splitlines() if line.startswith("blue ")]
    assert row == ["blue", f"accounts/hearth/models/{model_id}", "READY", "1/1"]

    scaled = hearth("scale", "deployment", "blue", "--replica-count", "0")
    assert scaled.exit_code == 0
    assert "/0 ready" in scaled.out
    beyond = hearth("scale", "deployment", "blue", "--replica-count", "3")
    assert (beyond.exit_code, beyond.err[:20]) == (1, "Error: replicaCount:")

    assert hearth("delete", "deployment", "blue", "--wait").out == "Deleted blue\n"
    assert hearth("get", "deployment", "blue").exit_code == 1
    assert "blue" not in hearth("list", "deployments").out
    assert "blue" in hearth("list", "deployments", "--show-deleted").out
    assert hearth("delete", "deployment", "blue", "--hard", "--ignore-checks", "--wait").exit_code == 0
    assert "blue" not in hearth("list", "deployments", "--show-deleted").out


def test_options_are_changed_and_only_those_given(hearth: Hearth, model_id: str) -> None:
    words = (
        "--deployment-id",
        "green",
        "--max-replica-count",
        "0",
        "--load-targets",
        "requests_per_second=2,default=.5",
    )
    made = hearth(
        "create", "deployment", model_id, *words, "--pinned", "--scale-up-window", "1s", "--expire-time", "2199-01-01"
    )
    assert made.exit_code == 0, made.err
    for line in (r"Pinned: +yes", r"Scaling windows: +up 1s, down 10m", r"Load targets: .*requests_per_second 2"):
        assert re.search(line, made.out), line
    changed: Any = hearth(
        *("update", "deployment", "green", "--no-pinned", "--display-name", "Green", "--deployment-shape", "fast"),
        *("--scale-down-window", "1m", "--unused-auto-delete-duration", "0", "-o", "json"),
    ).json
    assert (changed["pinned"], changed["displayName"], changed["unusedAutoDeleteDuration"]) == (False, "Green", "0s")
    assert changed["autoscalingPolicy"]["scaleUpWindow"] == "1s"
    assert changed["autoscalingPolicy"]["scaleDownWindow"] == "60s"
    assert changed["deploymentShape"].endswith("/deploymentShapes/fast/versions/v1")
    assert changed["expireTime"].startswith("2199-01-01T00:00:00")
    tried: Any = hearth("update", "deployment", "green", "--precision", "FP16", "--validate-only", "-o", "json").json
    assert (tried["precision"], tried["revision"]) == ("FP16", changed["revision"] + 1)
    kept: Any = hearth("get", "deployment", "green", "-o", "json").json
    assert "precision" not in kept
    refused = hearth("update", "deployment", "green", "--scale-to-zero-window", "1s")
    assert (refused.exit_code, "min_scale_to_zero_window_s" in refused.err) == (1, True)
    assert hearth("delete", "deployment", "green", "--ignore-checks").exit_code == 0


def test_a_file_says_what_options_do_not(hearth: Hearth, model_id: str, tmp_path: Path) -> None:
    schedule = {"minReplicaCount": 1, "schedule": "0 8 * * 1-5", "duration": "9h", "timezone": "Europe/Berlin"}
    policy = {"scaleUpWindow": "5s", "scalingSchedules": {"day": schedule}}
    (tmp_path / "wish.json").write_text(json.dumps({"displayName": "From the file", "autoscalingPolicy": policy}))
    words = ("--file", str(tmp_path / "wish.json"), "--scale-up-window", "9s", "--validate-only")
    shown = hearth("create", "deployment", model_id, *words)
    assert shown.exit_code == 0, shown.err
    for line in (r"Display name: +From the file", r"up 9s", r"Schedule day: +at least 1 for 9h .*Europe/Berlin"):
        assert re.search(line, shown.out), line
    (tmp_path / "wish.json").write_text("[1]")
    assert hearth("create", "deployment", model_id, *words).exit_code == 1


def test_a_deployment_is_rolled_deleted_and_undeleted(hearth: Hearth, model_id: str) -> None:
    words = ("create", "deployment", model_id, "--deployment-id", "back", "--min-replica-count", "1", "--wait")
    assert hearth(*words).exit_code == 0
    rolled = hearth("update", "deployment", "back", "--max-context-length", "128", "--wait")
    assert rolled.exit_code == 0, rolled.err
    assert re.search(r"State: +READY", rolled.out)
    shown = hearth("get", "deployment", "back").out
    assert re.search(r"Revision: +2", shown)
    assert re.search(r"REPLICA +STATE +DEVICES .*\n\d +READY +simulated-", shown)
    assert hearth("delete", "deployment", "back", "--ignore-checks", "--wait").exit_code == 0
    restored = hearth("undelete", "deployment", "back", "--wait")
    assert restored.exit_code == 0, restored.err
    shown = hearth("get", "deployment", "back").out
    assert re.search(r"SCALED AT +REPLICAS +REASON\n.* 0 → 1 +undeleted\n.* 1 → 0 +deleted", shown)
    assert hearth("delete", "deployment", "back", "--hard", "--ignore-checks", "--wait").exit_code == 0
    assert hearth("undelete", "deployment", "back").exit_code == 1


def test_a_dry_run_creates_nothing(hearth: Hearth, model_id: str) -> None:
    for flag in ("--dry-run", "--validate-only"):
        shown = hearth("create", "deployment", model_id, "--deployment-id", "ghost", flag, "--wait")
        assert shown.exit_code == 0, shown.err
        assert ("accounts/hearth/deployments/ghost" if flag == "--validate-only" else "deploymentId=ghost") in shown.out
    assert hearth("get", "deployment", "ghost").exit_code == 1


def test_json_is_what_the_api_says(hearth: Hearth, model_id: str) -> None:
    created: Any = hearth(
        *("create", "deployment", model_id, "--deployment-id", "shown", "--min-replica-count", "1", "--wait"),
        *("-o", "json"),
    ).json
    assert (created["state"], created["replicaStats"]["readyReplicaCount"]) == ("READY", 1)
    listed: Any = hearth("list", "deployments", "-o", "json").json
    assert "accounts/hearth/deployments/shown" in [deployment["name"] for deployment in listed]
    assert hearth("delete", "deployment", "shown", "-o", "json").json == {}


def test_waiting_for_a_deployment_that_fails_ends_with_its_reason(hearth: Hearth, checkpoint: object) -> None:
    assert hearth("create", "model", "broken-model", str(checkpoint), "--quiet").exit_code == 0
    hearth.daemon.script_model("broken-model", FakeModel(load="refuse"))
    failed = hearth(
        *("create", "deployment", "broken-model", "--deployment-id", "broken", "--min-replica-count", "1", "--wait")
    )
    assert failed.exit_code == 1
    last = failed.err.splitlines()[-1]
    assert last.startswith("Error: accounts/hearth/deployments/broken is FAILED: ")
    assert "not to be served" in last


def test_progress_names_the_stage_of_the_load(hearth: Hearth, checkpoint: object) -> None:
    assert hearth("create", "model", "slow-model", str(checkpoint), "--quiet").exit_code == 0
    hearth.daemon.script_model("slow-model", FakeModel(load_s=3.0))
    created = hearth(
        *("create", "deployment", "slow-model", "--deployment-id", "slow", "--min-replica-count", "1", "--wait")
    )
    assert created.exit_code == 0, created.err
    assert "slow · CREATING · 0/1 replicas · weights " in created.err
    assert re.search(r"weights \d+%, \d+ s left", created.err)


def test_what_cannot_be_placed_says_why_in_the_list(hearth: Hearth, model_id: str) -> None:
    words = ("create", "deployment", model_id, "--deployment-id", "wide", "--min-replica-count", "1")
    outcome = hearth(*words, "--accelerator-type", "NVIDIA_B200_180GB")
    assert (outcome.exit_code, outcome.out) == (1, "")
    assert "NVIDIA_H100_80GB" in outcome.err, "what there is instead"


@pytest.mark.parametrize(
    "words",
    [
        ("create", "deployment"),
        ("create", "deployment", "m", "--min-replica-count", "-1"),
        ("create", "deployment", "m", "--min-replica-count", "two"),
        ("create", "deployment", "m", "--load-targets", "many"),
        ("create", "deployment", "m", "--expire-time", "tomorrow"),
        ("update", "deployment", "d"),
        ("scale", "deployment", "d"),
        ("scale", "deployment", "d", "--replica-count", "-1"),
        ("get", "deployment"),
        ("delete", "deployment", "a", "b"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_a_usage_error(hearth: Hearth, words: tuple[str, ...]) -> None:
    outcome = hearth(*words)
    assert (outcome.exit_code, outcome.out) == (2, "")
    assert "Usage: hearth" in outcome.err


def test_waiting_for_what_an_other_deletes_ends(hearth: Hearth, checkpoint: object) -> None:
    assert hearth("create", "model", "endless-model", str(checkpoint), "--quiet").exit_code == 0
    hearth.daemon.script_model("endless-model", FakeModel(load="hang"))

    def delete_once_created() -> None:
        with Client(hearth.daemon.base_url, hearth.daemon.api_key) as client:
            while not any(deployment.name.endswith("/endless") for deployment in client.deployments.list()):
                time.sleep(0.02)
            client.deployments.delete("endless")

    other = threading.Thread(target=delete_once_created)
    other.start()
    words = ("create", "deployment", "endless-model", "--deployment-id", "endless", "--min-replica-count", "1")
    outcome = hearth(*words, "--wait")
    other.join()
    assert outcome.exit_code == 1
    assert "endless" in outcome.err.splitlines()[-1]


def test_waiting_redraws_one_line_on_a_terminal(hearth: Hearth, checkpoint: object) -> None:
    assert hearth("create", "model", "watched-model", str(checkpoint), "--quiet").exit_code == 0
    hearth.daemon.script_model("watched-model", FakeModel(load_s=4.0))
    words = (
        "create",
        "deployment",
        "watched-model",
        "--deployment-id",
        "watched",
        "--min-replica-count",
        "1",
        "--wait",
    )
    with hearth.in_terminal(*words) as screen:
        screen.read_until(r"watched · CREATING · 0/1 replicas · weights \d+%.* · \d+ s")
        assert screen.wait() == 0, screen.text
    assert re.search(r"State: +READY", screen.text)


def test_waiting_can_be_left_and_the_deployment_goes_on(hearth: Hearth, checkpoint: object) -> None:
    assert hearth("create", "model", "left-model", str(checkpoint), "--quiet").exit_code == 0
    hearth.daemon.script_model("left-model", FakeModel(load_s=10.0))
    words = ("create", "deployment", "left-model", "--deployment-id", "left", "--min-replica-count", "1", "--wait")
    with hearth.in_terminal(*words) as screen:
        screen.read_until("left · CREATING")
        screen.type(CTRL_C)
        assert screen.wait() != 0
    assert "Traceback" not in screen.text
    assert "accounts/hearth/deployments/left goes on" in screen.text
    assert hearth("get", "deployment", "left").exit_code == 0
