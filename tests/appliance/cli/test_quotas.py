from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_quota_is_listed_set_shown_and_lifted(hearth: Hearth) -> None:
    listed = hearth("list", "quotas")
    assert listed.exit_code == 0, listed.err
    rows = {line.split()[0]: line.split() for line in listed.out.splitlines()[1:]}
    assert rows["disk-bytes"][2] == "unlimited"
    assert rows["requests-per-minute"][1:3] == ["-", "unlimited"]
    changed = hearth("update", "quota", "monthly-tokens", "--value", "5,000,000")
    assert "Limit:    5,000,000" in changed.out, changed.err
    shown: Any = hearth("quota", "get", "monthly-tokens", "-o", "json").json
    assert shown["value"] == "5000000"
    assert "unlimited" in hearth("quota", "update", "monthly-tokens", "--value", "unlimited").out


def test_a_user_has_quotas_of_its_own(hearth: Hearth) -> None:
    changed: Any = hearth(
        "update", "quota", "requests-per-minute", "--user", "admin", "--value", "9000", "-o", "json"
    ).json
    assert changed["name"] == "accounts/hearth/users/admin/quotas/requests-per-minute"
    rows = hearth("list", "quotas", "--user", "admin").out
    assert "9,000" in rows
    assert "replicas" not in rows
    assert hearth("update", "quota", "requests-per-minute", "--user", "admin", "--value", "unlimited").exit_code == 0


def test_what_makes_no_sense_is_refused(hearth: Hearth) -> None:
    assert hearth("update", "quota", "replicas").exit_code == 2
    assert hearth("update", "quota", "replicas", "--value", "many").exit_code == 2
    refused = hearth("get", "quota", "nonsense")
    assert (refused.exit_code, "there are serverless-inference-rpm" in refused.err) == (1, True)
