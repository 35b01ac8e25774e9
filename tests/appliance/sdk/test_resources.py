from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from appliance.sdk.resources import Accounts, ApiKeys, Deployments, Models

T = TypeVar("T")


class Call(msgspec.Struct):
    method: str
    path: str
    query: dict[str, Any] = {}
    body: Any = None


class RecordingTransport:
    """Answers from a script and remembers what was asked."""

    account_id = "acme"

    def __init__(self, *answers: object) -> None:
        self.calls: list[Call] = []
        self.files: list[tuple[str, Path]] = []
        self._answers = [msgspec.json.encode(answer) for answer in answers]

    def call(self, method: str, path: str, kind: type[T], query: Mapping[str, object] = {}, body: object = None) -> T:
        self.calls.append(Call(method, path, dict(query), body))
        return msgspec.json.decode(self._answers.pop(0), type=kind)

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None:
        self.files.append((url, file))
        on_sent(file.stat().st_size)

    def events(self, path: str, body: object) -> Iterator[bytes]:
        raise NotImplementedError


def deployment(name: str) -> dict[str, object]:
    return {"name": name, "baseModel": "accounts/acme/models/m", "fieldOfTomorrow": 1}


def test_a_list_asks_for_every_page() -> None:
    transport = RecordingTransport(
        {"deployments": [deployment("a"), deployment("b")], "nextPageToken": "after-b", "totalSize": 3},
        {"deployments": [deployment("c")], "nextPageToken": ""},
    )
    assert [found.name for found in Deployments(transport).list(show_deleted=True)] == ["a", "b", "c"]
    assert [call.query["pageToken"] for call in transport.calls] == ["", "after-b"]
    assert all(call.query["showDeleted"] is True for call in transport.calls)


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


def test_create_sends_only_the_fields_that_were_given_in_camel_case() -> None:
    transport = RecordingTransport(deployment("d"))
    Deployments(transport).create("m", deployment_id="d", min_replica_count=0, precision=None, display_name="D")
    (call,) = transport.calls
    assert call.body == {"baseModel": "m", "minReplicaCount": 0, "displayName": "D"}
    flags = {"validateOnly": False, "disableAutoDeploy": False, "disableSpeculativeDecoding": False}
    assert call.query == {"deploymentId": "d", **flags}


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
