from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_key_is_shown_once_and_works_until_it_is_deleted(hearth: Hearth) -> None:
    created = hearth("create", "api-key", "--display-name", "ci", "--expire-time", "2999-01-31T00:00:00Z")
    assert created.exit_code == 0, created.err
    fields = dict(line.split(":", 1) for line in created.out.splitlines())
    key, key_id = fields["Key"].strip(), fields["Key id"].strip()
    assert key.startswith("fw_")
    assert "cannot be shown again" in created.err

    shown = hearth("get", "api-key", key_id)
    assert "2999-01-31" in shown.out
    (row,) = [line.split() for line in hearth("list", "api-keys").out.splitlines() if line.startswith(key_id)]
    assert row[1] == "ci"
    assert key not in shown.out + hearth("list", "api-keys", "-o", "json").out

    assert hearth("whoami", HEARTH_API_KEY=key).exit_code == 0
    assert hearth("delete", "api-key", key_id).out == f"Deleted {key_id}\n"
    refused = hearth("whoami", HEARTH_API_KEY=key)
    assert refused.exit_code == 1
    assert refused.err.startswith("Error: the API key is invalid, expired or revoked")
    assert hearth("get", "api-key", key_id).err == f"Error: keyId: API key {key_id!r} not found\n"


def test_json_holds_the_key_for_scripts(hearth: Hearth) -> None:
    created: Any = hearth("api-key", "create", "--key-name", "script", "-o", "json").json
    assert created["key"].startswith("fw_")
    assert created["displayName"] == "script"
    shown: Any = hearth("api-key", "get", created["keyId"], "-o", "json").json
    assert shown["keyId"] == created["keyId"]
    assert "key" not in shown


def test_a_key_carries_annotations_and_its_users_address(hearth: Hearth) -> None:
    created: Any = hearth("create", "api-key", "--annotation", "team=search", "--annotation", "x=", "-o", "json").json
    assert created["annotations"] == {"team": "search", "x": ""}
    assert "team=search" in hearth("get", "api-key", created["keyId"]).out


def test_what_makes_no_sense_is_a_usage_error(hearth: Hearth) -> None:
    for wrong in (("--expire-time", "tomorrow"), ("--annotation", "team"), ("--annotation", "=x")):
        outcome = hearth("create", "api-key", *wrong)
        assert outcome.exit_code == 2
        assert wrong[0] in outcome.err


def test_a_time_that_is_over_is_refused_by_the_daemon(hearth: Hearth) -> None:
    outcome = hearth("create", "api-key", "--expire-time", "2001-01-31 10:00:00")
    assert outcome.exit_code == 1
    assert outcome.err.startswith("Error: apiKey.expireTime: lies")
