from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_new_account_has_a_key_and_can_be_suspended(hearth: Hearth) -> None:
    created = hearth("create", "account", "initech", "--email", "it@initech.test")
    assert created.exit_code == 0, created.err
    fields = dict(line.split(":", 1) for line in created.out.splitlines())
    key = fields["Key"].strip()
    assert "cannot be shown again" in created.err
    assert "initech" in hearth("list", "accounts").out
    own = hearth("list", "accounts", HEARTH_API_KEY=key).out
    assert [line.split()[0] for line in own.splitlines()[1:]] == ["initech"]

    suspended = hearth("account", "suspend", "initech", "--reason", "CREDIT_DEPLETED")
    assert "CREDIT_DEPLETED" in suspended.out
    assert "CREDIT_DEPLETED" in hearth("get", "account", HEARTH_API_KEY=key).out
    refused = hearth("create", "api-key", HEARTH_API_KEY=key)
    assert refused.exit_code == 1
    assert "suspended" in refused.err
    ended: Any = hearth("account", "unsuspend", "initech", "-o", "json").json
    assert ended["suspendState"] == "UNSUSPENDED"
    assert hearth("create", "api-key", HEARTH_API_KEY=key).exit_code == 0


def test_without_a_name_it_is_ones_own(hearth: Hearth) -> None:
    assert "Our box" in hearth("update", "account", "--display-name", "Our box").out
    shown: Any = hearth("get", "account", "accounts/hearth", "-o", "json").json
    assert shown["displayName"] == "Our box"
