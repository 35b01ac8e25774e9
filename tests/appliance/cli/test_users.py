from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_service_account_gets_a_key_that_follows_its_role(hearth: Hearth) -> None:
    created = hearth("create", "user", "--user-id", "ci-bot", "--role", "inference-user", "--service-account")
    assert created.exit_code == 0, created.err
    assert "accounts/hearth/users/ci-bot" in created.out
    assert "hearth create api-key --service-account ci-bot" in created.err
    made: Any = hearth("create", "api-key", "--service-account", "ci-bot", "--key-name", "ci", "-o", "json").json
    refused = hearth("create", "user", "--email", "x@hearth.test", HEARTH_API_KEY=made["key"])
    assert refused.exit_code == 1
    assert "inference-user" in refused.err
    assert hearth("update", "user", "ci-bot", "--role", "admin").exit_code == 0
    allowed = hearth("user", "create", "--email", "grace@hearth.test", HEARTH_API_KEY=made["key"])
    assert allowed.exit_code == 0, allowed.err
    rows = {line.split()[0]: line.split()[1:3] for line in hearth("list", "users").out.splitlines()}
    assert (rows["ci-bot"][0], rows["grace"]) == ("admin", ["user", "grace@hearth.test"])
    assert hearth("delete", "user", "ci-bot").out == "Deleted ci-bot\n"
    assert hearth("list", "users", HEARTH_API_KEY=made["key"]).exit_code == 1
    assert hearth("user", "delete", "accounts/hearth/users/grace").exit_code == 0


def test_a_user_is_shown_and_renamed(hearth: Hearth) -> None:
    renamed: Any = hearth("update", "user", "admin", "--display-name", "Root", "-o", "json").json
    assert (renamed["displayName"], renamed["role"]) == ("Root", "admin")
    assert "Root" in hearth("user", "get", "admin").out


def test_a_role_that_there_is_not_is_a_usage_error(hearth: Hearth) -> None:
    assert hearth("create", "user", "--user-id", "x", "--role", "king").exit_code == 2


def test_the_last_administrator_is_kept_and_told_why(hearth: Hearth) -> None:
    outcome = hearth("delete", "user", "admin")
    assert outcome.exit_code == 1
    assert "last administrator" in outcome.err
