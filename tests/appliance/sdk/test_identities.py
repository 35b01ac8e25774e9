import msgspec

from appliance.sdk.identities import KeyHolder


def test_a_server_that_says_less_of_a_key_is_understood() -> None:
    assert msgspec.json.decode(b'{"account": "accounts/acme"}', type=KeyHolder) == KeyHolder()
