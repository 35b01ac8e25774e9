from appliance.sdk.quotas import NO_LIMIT, Quota, Quotas
from tests.appliance.sdk.recording_transport import RecordingTransport

QUOTA = {"name": "accounts/acme/quotas/replicas", "value": "3", "maxValue": str(NO_LIMIT), "usage": 1}


def test_a_change_names_what_it_changes_and_nothing_else() -> None:
    transport = RecordingTransport(QUOTA)
    changed = Quotas(transport).update("replicas", value=3)
    (call,) = transport.calls
    assert (call.method, call.path) == ("PATCH", "/v1/accounts/acme/quotas/replicas")
    assert (call.query, call.body) == ({"allowMissing": True}, {"value": "3"})
    assert changed.id == "replicas"


def test_quotas_of_users_and_keys_are_below_them() -> None:
    transport = RecordingTransport({"quotas": [QUOTA]}, QUOTA)
    assert [quota.usage for quota in Quotas(transport).list(user_id="a/b")] == [1.0]
    Quotas(transport).get("monthly-tokens", key_id="k")
    assert [call.path for call in transport.calls] == [
        "/v1/accounts/acme/users/a%2Fb/quotas",
        "/v1/accounts/acme/apiKeys/k/quotas/monthly-tokens",
    ]


def test_a_quota_without_a_limit_reads_as_the_largest_number() -> None:
    assert int(Quota(name="accounts/acme/quotas/replicas").value) == NO_LIMIT
