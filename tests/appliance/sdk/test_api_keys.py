from appliance.sdk.api_keys import ApiKeys
from tests.appliance.sdk.recording_transport import RecordingTransport


def test_a_new_key_is_the_callers_own_unless_a_user_is_named() -> None:
    transport = RecordingTransport(
        {"keyId": "k", "key": "fw_secret"}, {"keyId": "k"}, {"apiKeys": []}, {"keyId": "k"}, {}
    )
    api_keys = ApiKeys(transport)
    assert api_keys.create(display_name="ci", annotations={"team": "search"}).key == "fw_secret"
    assert api_keys.create(user_id="accounts/acme/users/bot").key == ""
    assert list(api_keys.list(user_id="-")) == []
    assert api_keys.get("k").key_id == "k"
    api_keys.delete("k", user_id="ann")
    assert [(call.method, call.path) for call in transport.calls] == [
        ("POST", "/v1/accounts/acme/apiKeys"),
        ("POST", "/v1/accounts/acme/users/bot/apiKeys"),
        ("GET", "/v1/accounts/acme/users/-/apiKeys"),
        ("GET", "/v1/accounts/acme/apiKeys/k"),
        ("POST", "/v1/accounts/acme/users/ann/apiKeys:delete"),
    ]
    bodies = [call.body for call in transport.calls]
    assert bodies[0] == {"apiKey": {"displayName": "ci", "annotations": {"team": "search"}}}
    assert (bodies[1], bodies[4]) == ({"apiKey": {}}, {"keyId": "k"})
