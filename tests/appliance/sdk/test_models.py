from pathlib import Path

import pytest

from appliance.sdk import models
from appliance.sdk.models import Models
from tests.appliance.sdk.recording_transport import RecordingTransport

MODEL = {"name": "accounts/acme/models/m"}


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


def test_large_files_are_sent_so_that_they_can_be_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "RESUMABLE_BYTES", 5)
    (tmp_path / "large").write_bytes(b"123456")
    urls: dict[str, object] = {"filenameToSignedUrls": {"large": "http://box/large"}}
    transport = RecordingTransport(urls, {}, urls, {})
    Models(transport).upload("m", [tmp_path / "large"], lambda file, size: None)
    assert transport.calls[0].body["enableResumableUpload"] is True
    Models(transport).upload("m", [tmp_path / "large"], lambda file, size: None, is_resumable=False)
    assert "enableResumableUpload" not in transport.calls[2].body


def test_a_model_is_made_and_changed_with_what_is_given() -> None:
    transport = RecordingTransport(MODEL, MODEL, MODEL)
    Models(transport).create("m", display_name="M", public=True, github_url=None)
    Models(transport).create("a", base_model="m")
    Models(transport).update("m", context_length=0, conversation_config={"style": "jinja", "template": "x"})
    base = {"kind": "HF_BASE_MODEL", "baseModelDetails": {"checkpointFormat": "HUGGINGFACE"}}
    assert transport.calls[0].body == {"modelId": "m", "model": base | {"displayName": "M", "public": True}}
    assert transport.calls[1].body["model"] == {"kind": "HF_PEFT_ADDON", "peftDetails": {"baseModel": "m"}}
    assert (transport.calls[2].method, transport.calls[2].body["contextLength"]) == ("PATCH", 0)


def test_an_import_names_its_source_and_its_operation_is_followed() -> None:
    operation = {"name": "accounts/acme/operations/o", "done": False, "metadata": {"percent": 7}}
    page = {"operations": [operation]}
    transport = RecordingTransport(operation, operation, page, {})
    client = Models(transport)
    started = client.start_import("m", repository="o/n", revision="v1", display_name="M")
    assert (started.done, started.metadata.percent) == (False, 7)
    assert transport.calls[0].path.endswith("/models/m:import")
    body = transport.calls[0].body
    assert (body["huggingFaceUrl"], body["revision"], body["model"]["displayName"]) == ("o/n", "v1", "M")
    client.get_operation("o")
    assert list(client.list_operations()) == [started]
    client.cancel_operation(started.name)
    assert transport.calls[3].path == "/v1/accounts/acme/operations/o:cancel"


def test_checks_preparation_and_downloads_are_asked_for(tmp_path: Path) -> None:
    transport = RecordingTransport({"warnings": ["w"]}, {}, {"filenameToSignedUrls": {"a": "http://box/a"}})
    client = Models(transport)
    assert client.validate("m", config_only=True) == ["w"]
    assert transport.calls[0].query == {"configOnly": True}
    client.prepare("m", "FP16")
    assert transport.calls[1].body == {"precision": "FP16"}
    assert client.download_urls("m") == {"a": "http://box/a"}
    client.download("http://box/a", tmp_path / "a")
    assert transport.files == [("http://box/a", tmp_path / "a")]


def test_files_in_folders_keep_those_in_their_names(tmp_path: Path) -> None:
    files = [tmp_path / "model_index.json", tmp_path / "unet" / "config.json"]
    (tmp_path / "unet").mkdir()
    for file in files:
        file.write_text("{}")
    urls = {name: f"http://box/{name}" for name in ("model_index.json", "unet/config.json")}
    transport = RecordingTransport({"filenameToSignedUrls": urls}, {"warnings": []})
    Models(transport).upload("m", files, lambda file, size: None, folder=tmp_path)
    assert transport.calls[0].body == {"filenameToSize": {"model_index.json": "2", "unet/config.json": "2"}}
    assert transport.files == [(urls["model_index.json"], files[0]), (urls["unet/config.json"], files[1])]
