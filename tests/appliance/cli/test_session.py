from pathlib import Path

import pytest

from appliance.cli.credentials import Asked, Profile, keep_profile
from appliance.cli.output import OutputFormat
from appliance.cli.session import NotSent, Session, print_planned
from appliance.errors import HearthError
from appliance.sdk.accounts import Account
from appliance.sdk.client import Planned

NOWHERE = Asked(base_url="http://127.0.0.1:1", account_id="acme")


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTH_API_KEY", "FIREWORKS_API_KEY", "HEARTH_BASE_URL", "HEARTH_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HEARTH_DATA_DIR", str(tmp_path))


def test_the_client_goes_where_the_credentials_lead() -> None:
    session = Session(NOWHERE)
    assert (session.client.base_url, session.client.account_id) == ("http://127.0.0.1:1", "acme")
    session.close()


def test_a_profile_that_nobody_signed_in_to_is_refused() -> None:
    with pytest.raises(HearthError, match="there is no profile 'box': hearth signin --profile box"):
        _ = Session(Asked(profile="box")).client
    keep_profile(Session(NOWHERE).environment.credentials_file, "box", Profile("http://box", "fw_1"))
    with Session(Asked(profile="box")).client as client:
        assert client.base_url == "http://box"


def test_a_dry_run_stops_at_what_would_change_something() -> None:
    session = Session(NOWHERE, is_dry_run=True)
    with session.client as client, pytest.raises(NotSent) as stopped:
        client.call("POST", "/v1/accounts", Account, {"x": True}, {"accountId": "a"})
    assert stopped.value.planned == Planned("POST", "/v1/accounts", {"x": "true"}, {"accountId": "a"})


def test_a_dry_run_of_what_only_reads_stops_at_the_reading() -> None:
    session = Session(NOWHERE, is_dry_run=True, sends_reads=False)
    with session.client as client, pytest.raises(NotSent):
        client.call("GET", "/v1/accounts", Account)


def test_a_planned_request_is_printed_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    planned = Planned("POST", "/v1/things", {"thingId": "x", "hard": "true"}, {"a": 1})
    print_planned(Session(NOWHERE), planned)
    assert capsys.readouterr().out == 'POST /v1/things?thingId=x&hard=true\n{\n  "a": 1\n}\n'
    print_planned(Session(NOWHERE), Planned("GET", "/v1/things"))
    assert capsys.readouterr().out == "GET /v1/things\n"
    print_planned(Session(NOWHERE, OutputFormat.JSON), Planned("GET", "/v1/things"))
    assert '"method": "GET"' in capsys.readouterr().out
