from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.appliance.cli.conftest import Hearth
from tests.fakes.tiny_addon import build_tiny_addon


@pytest.fixture(scope="module")
def addon_folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    return build_tiny_addon(tmp_path_factory.mktemp("addon") / "addon", checkpoint, target_modules=["q_proj"])


@pytest.fixture(scope="module")
def addon(hearth: Hearth, model_id: str, addon_folder: Path) -> str:
    created = hearth("create", "model", "rhymes", str(addon_folder), "--base-model", model_id, "--quiet")
    assert created.exit_code == 0, created.err
    return "rhymes"


@pytest.fixture
def deployment(hearth: Hearth, model_id: str) -> Iterator[str]:
    """One that takes addons."""
    words = ("create", "deployment", model_id, "--deployment-id", "choir", "--enable-addons", "--wait")
    assert (created := hearth(*words)).exit_code == 0, created.err
    yield "choir"
    assert hearth("delete", "deployment", "choir", "--hard", "--ignore-checks", "--wait").exit_code == 0


def rows(hearth: Hearth) -> list[list[str]]:
    return [line.split() for line in hearth("list", "deployed-models").out.splitlines()[1:]]


def test_an_addon_shows_what_it_is_made_for(hearth: Hearth, addon: str, model_id: str) -> None:
    lines = [line.split(maxsplit=2) for line in hearth("get", "model", addon).out.splitlines()]
    assert ["Base", "model:", f"accounts/hearth/models/{model_id}"] in lines
    assert ["Kind:", "HF_PEFT_ADDON"] in lines
    assert ["Layers:", "q_proj"] in lines


def test_an_addon_is_deployed_shown_published_and_undeployed(hearth: Hearth, addon: str, deployment: str) -> None:
    deployed = hearth("deploy", addon, "--deployment-id", deployment, "--display-name", "Rhymes", "--wait")
    assert deployed.exit_code == 0, deployed.err
    assert "State:         DEPLOYED" in deployed.out
    assert "Default:       yes" in deployed.out
    assert "Public:        no" in deployed.out
    (row,) = [row for row in rows(hearth) if row[0].startswith("rhymes-")]
    assert row[1:] == ["accounts/hearth/models/rhymes", deployment, "DEPLOYED", "*"]
    assert f"on accounts/hearth/deployments/{deployment} (DEPLOYED, default)" in hearth("get", "model", addon).out

    changed: Any = hearth("update", "deployed-model", row[0], "--public", "-o", "json").json
    assert (changed["public"], changed["displayName"]) == (True, "Rhymes")
    assert "Public:        no" in hearth("update", "deployed-model", row[0], "--no-public").out
    twice = hearth("deploy", addon, "--deployment", deployment)
    assert (twice.exit_code, "already" in twice.err) == (1, True)
    in_use = hearth("delete", "model", addon)
    assert (in_use.exit_code, row[0] in in_use.err) == (1, True)

    undeployed = hearth("undeploy", addon, "--wait")
    assert undeployed.out == f"Undeployed accounts/hearth/deployedModels/{row[0]}\n"
    assert not [row for row in rows(hearth) if row[0].startswith("rhymes-")]
    again = hearth("undeploy", addon)
    assert (again.exit_code, "is not deployed here" in again.err) == (1, True)


def test_the_words_of_the_newer_command_line_do_the_same(hearth: Hearth, addon: str, deployment: str) -> None:
    """Without a deployment it is the only one that takes the addon."""
    loaded: Any = hearth("load-lora", addon, "--public", "--wait", "-o", "json").json
    assert (loaded["public"], loaded["deployment"]) == (True, f"accounts/hearth/deployments/{deployment}")
    assert hearth("get", "deployed-model", loaded["name"]).out.startswith(f"Name:        {loaded['name']}\n")
    assert hearth("unload-lora", loaded["name"], "--deployment", deployment, "--wait").exit_code == 0
    assert hearth("get", "deployed-model", loaded["name"]).exit_code == 1


def test_of_several_places_one_must_be_said(hearth: Hearth, addon: str, model_id: str, deployment: str) -> None:
    words = ("create", "deployment", model_id, "--deployment-id", "solo", "--enable-addons", "--min-replica-count", "0")
    assert hearth(*words).exit_code == 0
    unclear = hearth("deploy", addon)
    assert (unclear.exit_code, "choir, solo" in unclear.err) == (1, True)
    for where in (deployment, "solo"):
        assert hearth("deploy", addon, "--deployment-id", where).exit_code == 0
    unclear = hearth("undeploy", addon)
    assert (unclear.exit_code, "say which with --deployment-id" in unclear.err) == (1, True)
    assert hearth("undeploy", addon, "--deployment-id", "solo", "--wait").exit_code == 0
    assert hearth("delete", "deployment", "solo", "--hard", "--ignore-checks", "--wait").exit_code == 0


def test_what_cannot_be_loaded_ends_the_waiting_with_the_reason(
    hearth: Hearth, addon: str, addon_folder: Path, model_id: str, deployment: str
) -> None:
    assert hearth("create", "model", "noise", str(addon_folder), "--base-model", model_id, "--quiet").exit_code == 0
    directory = hearth.daemon.model_directory("noise")
    (directory / "refuse").touch()
    refused = hearth("deploy", "noise", "--deployment-id", deployment, "--wait")
    assert (refused.exit_code, "not of this base model" in refused.err) == (1, True)


def test_an_addons_folder_is_told_from_a_models(hearth: Hearth, addon_folder: Path, checkpoint: Path) -> None:
    forgotten = hearth("create", "model", "x", str(addon_folder))
    assert (forgotten.exit_code, "say its --base-model" in forgotten.err) == (1, True)
    no_addon = hearth("create", "model", "x", str(checkpoint), "--base-model", "shared-model")
    assert (no_addon.exit_code, "has no adapter_config.json" in no_addon.err) == (1, True)
