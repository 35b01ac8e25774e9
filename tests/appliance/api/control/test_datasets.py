"""Datasets through the real `fireworks` package, and what it cannot say through plain HTTP."""

import asyncio
import json
from typing import Any

import aiohttp
import fireworks
import httpx
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import Api

DATASETS = "/v1/accounts/hearth/datasets"
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
LINE = json.dumps(CHAT).encode() + b"\n"


async def create(api: Api, dataset_id: str = "qa", **dataset: Any) -> dict[str, Any]:
    body = {"datasetId": dataset_id, "dataset": {"userUploaded": {}, **dataset}}
    async with api.session.post(DATASETS, json=body, headers=api.bearer()) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def call(api: Api, method: str, path: str, role: Role = Role.USER, **options: Any) -> tuple[int, Any]:
    async with api.session.request(method, f"{DATASETS}/{path}", headers=api.bearer(role), **options) as response:
        return response.status, await response.json()


def form(content: bytes) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("file", content, filename="train.jsonl")
    return data


async def create_ready(api: Api, content: bytes = LINE) -> None:
    await create(api)
    status, answer = await call(api, "POST", "qa:upload", data=form(content))
    assert status == 200, answer


async def test_a_dataset_is_created_uploaded_checked_and_ready(admin: Fireworks) -> None:
    def session() -> None:
        created = admin.datasets.create(
            dataset_id="mine", dataset={"user_uploaded": {}, "display_name": "Mine", "example_count": "2"}
        )
        assert (created.name, created.state, created.example_count) == (
            "accounts/hearth/datasets/mine",
            "UPLOADING",
            "2",
        )
        urls = admin.datasets.get_upload_endpoint(
            "mine", filename_to_size={"a.jsonl": str(len(LINE)), "b.jsonl": str(2 * len(LINE))}
        ).filename_to_signed_urls
        assert urls is not None
        for name, content in (("a.jsonl", LINE), ("b.jsonl", LINE * 2)):
            headers = {
                "Content-Type": "application/octet-stream",
                "X-Goog-Content-Length-Range": f"{len(content)},{len(content)}",
            }
            assert httpx.put(urls[name], content=content, headers=headers).status_code == 200
        assert admin.datasets.validate_upload("mine", body={}) == {}

        ready = admin.datasets.get("mine")
        assert (ready.state, ready.format, ready.example_count, ready.average_turn_count) == ("READY", "CHAT", "3", 1.0)
        assert ready.estimated_token_count == "30"
        assert (ready.created_by, ready.display_name) == ("admin", "Mine")
        assert ready.create_time is not None
        renamed = admin.datasets.update("mine", display_name="Yours")
        assert (renamed.display_name, renamed.state) == ("Yours", "READY")
        listed = [each.name for each in admin.datasets.list(filter='format="CHAT" AND state=READY')]
        assert listed == [ready.name]

        downloads = admin.datasets.get_download_endpoint("mine").filename_to_signed_urls
        assert downloads is not None
        assert {name: httpx.get(url).content for name, url in downloads.items()} == {
            "a.jsonl": LINE,
            "b.jsonl": LINE * 2,
        }
        admin.datasets.delete("mine")
        with pytest.raises(fireworks.NotFoundError):
            admin.datasets.get("mine")

    await asyncio.to_thread(session)


async def test_a_file_comes_in_one_request(admin: Fireworks) -> None:
    def session() -> None:
        admin.datasets.create(dataset_id="one", dataset={"user_uploaded": {}})
        uploaded = admin.datasets.upload("one", file=("train.jsonl", LINE * 3))
        assert (uploaded.id, uploaded.object, uploaded.bytes, uploaded.filename, uploaded.purpose) == (
            "one",
            "file",
            3 * len(LINE),
            "train.jsonl",
            "fine-tune",
        )
        assert uploaded.created_at is not None
        ready = admin.datasets.get("accounts/hearth/datasets/one")
        assert (ready.state, ready.example_count) == ("READY", "3")
        with pytest.raises(fireworks.BadRequestError, match="never changes"):
            admin.datasets.upload("one", file=LINE)

    await asyncio.to_thread(session)


async def test_a_refused_file_is_explained_line_by_line(admin: Fireworks) -> None:
    def session() -> None:
        admin.datasets.create(dataset_id="bad", dataset={"user_uploaded": {}, "format": "CHAT"})
        with pytest.raises(fireworks.BadRequestError) as refused:
            admin.datasets.upload("bad", file=("train.jsonl", LINE + b"{}\nnot json\n"))
        message = refused.value.body["message"]  # type: ignore[index]
        assert message.splitlines()[1:] == [
            "train.jsonl line 2: messages: this field is required",
            "train.jsonl line 3: not valid JSON: JSON is malformed: invalid character (byte 4)",
        ]
        waiting = admin.datasets.get("bad")
        assert waiting.status is not None
        assert (waiting.state, waiting.status.code, waiting.status.message) == (
            "UPLOADING",
            "INVALID_ARGUMENT",
            message,
        )

    await asyncio.to_thread(session)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "datasetId"),
        ({"datasetId": "d"}, "dataset"),
        ({"datasetId": "Upper", "dataset": {}}, "datasetId"),
        ({"datasetId": "d", "dataset": {}, "sourceDatasetId": "other"}, "sourceDatasetId"),
        ({"datasetId": "d", "dataset": {}, "filter": "x = 1"}, "filter"),
        ({"datasetId": "d", "dataset": {"externalUrl": "gs://bucket"}}, "dataset.externalUrl"),
        ({"datasetId": "d", "dataset": {"transformed": {"sourceDatasetId": "x"}}}, "dataset.transformed"),
        ({"datasetId": "d", "dataset": {"evalProtocol": {"x": 1}}}, "dataset.evalProtocol"),
        ({"datasetId": "d", "dataset": {"format": "PARQUET"}}, "dataset.format"),
        ({"datasetId": "d", "dataset": {"exampleCount": "0"}}, "dataset.exampleCount"),
        ({"datasetId": "d", "dataset": {"exampleCount": "50000001"}}, "dataset.exampleCount"),
        ({"datasetId": "d", "dataset": {"exampleCount": "many"}}, "dataset.exampleCount"),
    ],
)
async def test_a_field_at_fault_is_named(api: Api, body: dict[str, Any], param: str) -> None:
    async with api.session.post(DATASETS, json=body, headers=api.bearer()) as response:
        answer = await response.json()
        assert response.status == 400
        assert answer["message"].startswith(f"{param}: ")
        assert answer["details"][0]["fieldViolations"][0]["field"] == param


async def test_what_was_read_may_be_sent_back_and_what_never_changes_is_refused(api: Api) -> None:
    await create_ready(api)
    _, dataset = await call(api, "GET", "qa")
    status, answer = await call(api, "PATCH", "qa", json={**dataset, "displayName": "Yes", "fieldOfTomorrow": 1})
    assert (status, answer["displayName"]) == (200, "Yes")
    for change, param in [
        ({"format": "COMPLETION"}, "format"),
        ({"exampleCount": "7"}, "exampleCount"),
        ({"splitted": {"sourceDatasetId": "accounts/hearth/datasets/x"}}, "splitted.sourceDatasetId"),
        ({"displayName": "x" * 64}, "displayName"),
    ]:
        status, answer = await call(api, "PATCH", "qa", json=change)
        assert (status, answer["message"].partition(":")[0]) == (400, param)
    status, answer = await call(
        api, "PATCH", "qa", json={"displayName": "No", "format": "RL"}, params={"updateMask": "display_name"}
    )
    assert (status, answer["displayName"]) == (200, "No")
    status, answer = await call(api, "PATCH", "qa", json={}, params={"updateMask": "displayName"})
    assert (status, answer["displayName"]) == (200, "")


async def test_files_that_have_arrived_are_shown_where_one_dataset_is_asked_for(api: Api) -> None:
    await create(api)
    sizes = {"filenameToSize": {"a.jsonl": len(LINE), "b.jsonl": "7"}}
    status, answer = await call(api, "POST", "qa:getUploadEndpoint", json=sizes)
    assert status == 200
    url = answer["filenameToSignedUrls"]["a.jsonl"]
    assert url.startswith(api.url)
    async with api.session.put(url, data=LINE) as response:
        assert response.status == 200
    _, dataset = await call(api, "GET", "qa")
    assert [(file["filename"], file["sizeBytes"], "sha256" in file) for file in dataset["files"]] == [
        ("a.jsonl", str(len(LINE)), True),
        ("b.jsonl", "7", False),
    ]
    assert dataset["sizeBytes"] == str(len(LINE) + 7)
    status, answer = await call(api, "POST", "qa:validateUpload")
    assert (status, "b.jsonl has not arrived" in answer["message"]) == (400, True)


@pytest.mark.parametrize(
    ("filename", "taken"),
    [
        (b'filename="train.jsonl"', "train.jsonl"),
        (b'filename="../../etc/x.jsonl"', "x.jsonl"),
        (b'filename="C:\\\\data\\\\x.jsonl"', "x.jsonl"),
        (b'filename="my data.jsonl"', "dataset.jsonl"),
        (b"filename*=UTF-8''%D0%BC%D0%BE%D0%B8", "dataset.jsonl"),
        (b'filename=""', "dataset.jsonl"),
        (b"x=y", "dataset.jsonl"),
    ],
)
async def test_a_file_without_a_name_that_can_be_taken_gets_one(api: Api, filename: bytes, taken: str) -> None:
    await create(api)
    body = b'--x\r\nContent-Disposition: form-data; name="file"; ' + filename + b"\r\n\r\n" + LINE + b"\r\n--x--\r\n"
    headers = {**api.bearer(), "Content-Type": "multipart/form-data; boundary=x"}
    async with api.session.post(f"{DATASETS}/qa:upload", data=body, headers=headers) as response:
        answer = await response.json()
        assert (response.status, answer.get("filename")) == (200, taken), answer


async def test_a_dataset_is_split_and_its_chunks_know_where_they_are_from(api: Api) -> None:
    await create_ready(api, LINE * 5)
    status, answer = await call(api, "POST", "qa:splitDataset", json={"chunkSize": 2, "parent": "accounts/hearth"})
    assert (status, answer) == (
        200,
        {
            "chunkDatasetNames": [f"accounts/hearth/datasets/qa-chunk-{number}" for number in (1, 2, 3)],
            "chunksCreated": 3,
            "totalExamples": 5,
        },
    )
    _, chunk = await call(api, "GET", "qa-chunk-3")
    assert (chunk["state"], chunk["exampleCount"]) == ("READY", "1")
    assert chunk["splitted"] == {"sourceDatasetId": "accounts/hearth/datasets/qa"}
    status, urls = await call(api, "GET", "qa-chunk-3:getDownloadEndpoint", params={"downloadLineage": "true"})
    assert list(urls["filenameToSignedUrls"]) == ["qa-chunk-3/qa-chunk-3.jsonl", "qa/train.jsonl"]
    for body, param in [
        ({}, "chunkSize"),
        ({"chunkSize": 0}, "chunkSize"),
        ({"chunkSize": "1", "parent": "accounts/other"}, "parent"),
    ]:
        status, answer = await call(api, "POST", "qa:splitDataset", json=body)
        assert (status, answer["message"].partition(":")[0]) == (400, param)


async def test_the_first_examples_can_be_looked_at(api: Api) -> None:
    await create_ready(api, LINE * 20)
    status, answer = await call(api, "GET", "qa:preview")
    assert (status, answer) == (200, {"examples": [CHAT] * 10})
    assert len((await call(api, "GET", "qa:preview", params={"maxExamples": "2"}))[1]["examples"]) == 2
    assert (await call(api, "GET", "qa:preview", params={"readMask": "examples"}))[1] == {"examples": [CHAT] * 10}
    for wrong in ("0", "x", "-1", "1e9"):
        status, answer = await call(api, "GET", "qa:preview", params={"maxExamples": wrong})
        assert (status, answer["message"].partition(":")[0]) == (400, "maxExamples")


async def test_a_get_may_come_with_a_body(api: Api) -> None:
    await create_ready(api)
    status, _ = await call(api, "GET", "qa:getDownloadEndpoint", json={})
    assert status == 200


async def test_keys_that_only_infer_see_that_there_are_datasets_and_nothing_in_them(api: Api) -> None:
    await create_ready(api)
    assert (await call(api, "GET", "qa", Role.INFERENCE_USER))[0] == 200
    for method, verb in [("GET", "preview"), ("GET", "getDownloadEndpoint"), ("POST", "splitDataset")]:
        assert (await call(api, method, f"qa:{verb}", Role.INFERENCE_USER, json={"chunkSize": 1}))[0] == 403


async def test_datasets_of_other_accounts_do_not_exist(api: Api) -> None:
    for account_id in ("other", "fireworks", "nobody"):
        path = f"/v1/accounts/{account_id}/datasets"
        for suffix in ("", "/qa"):
            async with api.session.get(path + suffix, headers=api.bearer()) as response:
                assert response.status == 404
