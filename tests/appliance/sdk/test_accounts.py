from appliance.sdk.accounts import Accounts
from tests.appliance.sdk.recording_transport import RecordingTransport

ACME = {"name": "accounts/acme", "suspendState": "UNSUSPENDED"}


def test_accounts_are_made_and_suspended_by_id_or_full_name() -> None:
    transport = RecordingTransport({**ACME, "apiKey": {"keyId": "k", "key": "fw_first"}}, ACME, ACME, ACME, ACME)
    accounts = Accounts(transport)
    assert accounts.create("acme", email="it@acme.test").api_key.key == "fw_first"
    accounts.update("accounts/acme", display_name="Acme")
    accounts.suspend("acme", reason="CREDIT_DEPLETED")
    accounts.unsuspend("acme")
    accounts.get("a/b")
    assert [(call.method, call.path, call.body) for call in transport.calls] == [
        ("POST", "/v1/accounts", {"accountId": "acme", "account": {"email": "it@acme.test"}}),
        ("PATCH", "/v1/accounts/acme", {"displayName": "Acme"}),
        ("POST", "/v1/accounts/acme:suspend", {"reason": "CREDIT_DEPLETED"}),
        ("POST", "/v1/accounts/acme:unsuspend", {}),
        ("GET", "/v1/accounts/a%2Fb", None),
    ]


def test_accounts_are_listed_page_by_page() -> None:
    transport = RecordingTransport({"accounts": [ACME], "nextPageToken": "t"}, {"accounts": [ACME]})
    assert [account.name for account in Accounts(transport).list(filter="name:acme")] == ["accounts/acme"] * 2
    assert [call.query["filter"] for call in transport.calls] == ["name:acme"] * 2
