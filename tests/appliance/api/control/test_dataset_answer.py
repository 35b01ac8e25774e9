import msgspec

from appliance.api.control.dataset_answer import render_dataset
from appliance.domain import Dataset, DatasetFile, DatasetFormat, DatasetState

WAITING = Dataset(
    account_id="acme", id="qa", state=DatasetState.UPLOADING, directory="secret-folder", created_at=0.0, updated_at=1.5
)


def test_what_is_not_known_yet_is_left_out() -> None:
    assert msgspec.to_builtins(render_dataset(WAITING)) == {
        "name": "accounts/acme/datasets/qa",
        "displayName": "",
        "state": "UPLOADING",
        "status": {"code": "OK", "message": ""},
        "format": "FORMAT_UNSPECIFIED",
        "sizeBytes": "0",
        "userUploaded": {},
        "createdBy": "",
        "createTime": "1970-01-01T00:00:00.000000Z",
        "updateTime": "1970-01-01T00:00:01.500000Z",
    }


def test_numbers_of_64_bits_are_strings_and_a_chunk_names_its_source() -> None:
    ready = msgspec.structs.replace(
        WAITING,
        state=DatasetState.READY,
        status_message="odd",
        format=DatasetFormat.CHAT,
        example_count=2**40,
        estimated_token_count=7,
        average_turn_count=1.5,
        files=[DatasetFile(filename="a", size_bytes=2, sha256="ab"), DatasetFile(filename="b", size_bytes=3)],
        size_bytes=5,
        source_dataset="accounts/acme/datasets/whole",
    )
    answer = msgspec.to_builtins(render_dataset(ready, with_files=True))
    assert (answer["exampleCount"], answer["estimatedTokenCount"], answer["averageTurnCount"]) == (str(2**40), "7", 1.5)
    assert answer["splitted"] == {"sourceDatasetId": "accounts/acme/datasets/whole"}
    assert "userUploaded" not in answer
    assert answer["status"] == {"code": "OK", "message": "odd"}
    assert answer["files"] == [
        {"filename": "a", "sizeBytes": "2", "sha256": "ab"},
        {"filename": "b", "sizeBytes": "3"},
    ]
    assert "files" not in msgspec.to_builtins(render_dataset(ready))


def test_a_refused_upload_says_so_in_its_status() -> None:
    refused = msgspec.structs.replace(WAITING, status_message="a.jsonl line 1: not valid JSON")
    assert render_dataset(refused).status.code == "INVALID_ARGUMENT"
