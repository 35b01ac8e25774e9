from pathlib import Path

import pytest

from appliance.sdk.resources import Accounts, ApiKeys, Models
from tests.appliance.sdk.recording_transport import RecordingTransport


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("m", "/v1/accounts/acme/models/m"),
        ("accounts/fireworks/models/m", "/v1/accounts/fireworks/models/m"),
        ("accounts/acme/deployments/m", "/v1/accounts/acme/models/accounts%2Facme%2Fdeployments%2Fm"),
        ("../../x?y", "/v1/accounts/acme/models/..%2F..%2Fx%3Fy"),
    ],
)
def test_a_name_becomes_one_path_segment_of_its_own_account(named: str, path: str) -> None:
    transport = RecordingTransport({"name": "whatever"})
    Models(transport).get(named)
    assert transport.calls[0].path == path


def test_upload_announces_sizes_sends_each_file_to_its_url_and_returns_the_warnings(tmp_path: Path) -> None:
    files = [tmp_path / "config.json", tmp_path / "model.safetensors"]
    for number, file in enumerate(files, 1):
        file.write_bytes(b"x" * number)
    transport = RecordingTransport(
        {"filenameToSignedUrls": {file.name: f"http://box/{file.name}" for file in files}},
        {"warnings": ["remote code is never run"]},
    )
    sent: list[tuple[str, int]] = []
    warnings = Models(transport).upload("m", files, lambda file, size: sent.append((file.name, size)))
    assert warnings == ["remote code is never run"]
    assert transport.calls[0].body == {"filenameToSize": {"config.json": "1", "model.safetensors": "2"}}
    assert transport.files == [(f"http://box/{file.name}", file) for file in files]
    assert sent == [("config.json", 1), ("model.safetensors", 2)]
    assert transport.calls[1].path.endswith("/models/m:validateUpload")


def test_api_keys_are_the_callers_own_unless_a_user_is_named() -> None:
    transport = RecordingTransport({"keyId": "k", "key": "fw_secret"}, {"apiKeys": []}, {})
    api_keys = ApiKeys(transport)
    assert api_keys.create(display_name="ci").key == "fw_secret"
    assert list(api_keys.list(user_id="-")) == []
    api_keys.delete("k", user_id="ann")
    assert [call.path for call in transport.calls] == [
        "/v1/accounts/acme/apiKeys",
        "/v1/accounts/acme/users/-/apiKeys",
        "/v1/accounts/acme/users/ann/apiKeys:delete",
    ]


def test_accounts_are_got_by_id() -> None:
    transport = RecordingTransport({"name": "accounts/acme"}, {"accounts": [{"name": "accounts/acme"}]})
    accounts = Accounts(transport)
    assert accounts.get("acme").name == "accounts/acme"
    assert [account.name for account in accounts.list()] == ["accounts/acme"]
