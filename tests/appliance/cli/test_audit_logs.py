from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_the_log_is_listed_the_newest_first_in_both_word_orders(hearth: Hearth) -> None:
    hearth("create", "secret", "--name", "first-one", "--value", "v")
    hearth("create", "secret", "--name", "second-one", "--value", "v")
    listed = hearth("audit-logs", "list", "--email", "admin", "--filter", "method=CreateSecret")
    assert listed.exit_code == 0, listed.err
    heading, newest, *_ = listed.out.splitlines()
    assert heading.split() == ["ID", "TIME", "WHO", "WHAT", "RESOURCE", "FIELDS", "RESULT"]
    assert "admin" in newest
    assert "CreateSecret" in newest
    assert newest.endswith("OK")
    assert hearth("list", "audit-logs", "--email", "admin", "--filter", "method=CreateSecret").out == listed.out


def test_a_span_is_given_as_people_write_times(hearth: Hearth) -> None:
    listed: Any = hearth(
        "list", "audit-logs", "--start-time", "2001-01-01", "--order-by", "timestamp", "-o", "json"
    ).json
    assert listed[0]["method"] == "StartDaemon"
    assert hearth("list", "audit-logs", "--start-time", "2999-01-01 10:00:00", "-o", "json").json == []
    refused = hearth("list", "audit-logs", "--start-time", "yesterday")
    assert (refused.exit_code, "--start-time" in refused.err) == (2, True)
