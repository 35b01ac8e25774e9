import hashlib
from pathlib import Path

import pytest

from appliance.sdk.datasets import DatasetFile, Datasets, is_same, place_in
from appliance.sdk.errors import SdkError
from tests.appliance.sdk.recording_transport import RecordingTransport

PATH = "/v1/accounts/acme/datasets"


def test_a_dataset_is_created_for_upload() -> None:
    transport = RecordingTransport({"name": "accounts/acme/datasets/qa", "state": "UPLOADING", "fieldOfTomorrow": 1})
    assert Datasets(transport).create("qa", display_name="Questions").state == "UPLOADING"
    (call,) = transport.calls
    assert (call.method, call.path) == ("POST", PATH)
    assert call.body == {
        "datasetId": "qa",
        "dataset": {"userUploaded": {}, "displayName": "Questions", "format": ""},
    }


def test_an_upload_announces_all_files_and_sends_those_that_are_not_there(tmp_path: Path) -> None:
    here, missing = tmp_path / "here.jsonl", tmp_path / "missing.jsonl"
    here.write_bytes(b"{}\n")
    missing.write_bytes(b"[]\n")
    arrived = {"filename": "here.jsonl", "sizeBytes": "3", "sha256": hashlib.sha256(b"{}\n").hexdigest()}
    transport = RecordingTransport(
        {"name": "accounts/acme/datasets/qa", "files": [arrived]},
        {"filenameToSignedUrls": {"here.jsonl": "https://one", "missing.jsonl": "https://two"}},
        {},
    )
    sent: list[tuple[str, int]] = []
    Datasets(transport).upload("qa", [here, missing], lambda file, size: sent.append((file.name, size)))
    assert transport.files == [("https://two", missing)]
    assert sent == [("here.jsonl", 3), ("missing.jsonl", 3)]
    assert [(call.method, call.path) for call in transport.calls] == [
        ("GET", f"{PATH}/qa"),
        ("POST", f"{PATH}/qa:getUploadEndpoint"),
        ("POST", f"{PATH}/qa:validateUpload"),
    ]
    assert transport.calls[1].body == {"filenameToSize": {"here.jsonl": "3", "missing.jsonl": "3"}}


def test_a_file_is_the_same_by_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert is_same(DatasetFile(filename="file", size_bytes="2", sha256=digest), file)
    assert not is_same(DatasetFile(filename="file", size_bytes="2", sha256="0" * 64), file)
    assert not is_same(DatasetFile(filename="file", size_bytes="2"), file)
    assert not is_same(DatasetFile(filename="file", size_bytes="3", sha256=digest), file)
    assert not is_same(None, file)


def test_each_verb_has_its_path() -> None:
    name = {"name": "accounts/acme/datasets/qa"}
    transport = RecordingTransport(
        name, {"examples": [{"a": 1}]}, {"chunkDatasetNames": ["x"], "chunksCreated": 1}, {}, {}, {"datasets": [name]}
    )
    datasets = Datasets(transport)
    datasets.update("qa", display_name="")
    assert datasets.preview("qa", 3) == [{"a": 1}]
    assert datasets.split("qa", 5).chunks_created == 1
    assert datasets.download_urls("accounts/other/datasets/qa", with_lineage=True) == {}
    datasets.delete("qa")
    assert [each.name for each in datasets.list(filter="state=READY")] == [name["name"]]
    calls = [(call.method, call.path, call.query, call.body) for call in transport.calls[:5]]
    assert calls == [
        ("PATCH", f"{PATH}/qa", {}, {"displayName": ""}),
        ("GET", f"{PATH}/qa:preview", {"maxExamples": 3}, None),
        ("POST", f"{PATH}/qa:splitDataset", {}, {"chunkSize": 5}),
        ("GET", "/v1/accounts/other/datasets/qa:getDownloadEndpoint", {"downloadLineage": True}, None),
        ("DELETE", f"{PATH}/qa", {}, None),
    ]
    assert transport.calls[5].query["filter"] == "state=READY"


def test_a_file_lands_below_its_folder_whatever_a_server_calls_it(tmp_path: Path) -> None:
    assert place_in(tmp_path, "a.jsonl") == tmp_path / "a.jsonl"
    assert place_in(tmp_path, "qa/a.jsonl") == tmp_path / "qa" / "a.jsonl"
    for name in ("../a", "/etc/passwd", "a/../../b", "", "a//b", ".", "a\\b", "a\0b"):
        with pytest.raises(SdkError):
            place_in(tmp_path, name)
