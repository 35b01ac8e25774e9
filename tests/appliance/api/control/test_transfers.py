import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from appliance.domain import Role
from tests.appliance.api.conftest import Api

MODELS = "/v1/accounts/hearth/models"
CONTENT = bytes(range(256)) * 100


async def upload_url(api: Api, size: int = len(CONTENT), *, is_resumable: bool = True) -> str:
    headers = api.bearer(Role.ADMIN)
    async with api.session.post(MODELS, json={"modelId": "m"}, headers=headers) as response:
        assert response.status in (200, 409)
    body = {"filenameToSize": {"a.json": size}, "enableResumableUpload": is_resumable}
    async with api.session.post(f"{MODELS}/m:getUploadEndpoint", json=body, headers=headers) as response:
        return str((await response.json())["filenameToSignedUrls"]["a.json"])


async def put(api: Api, url: str, content: bytes, content_range: str | None) -> tuple[int, str | None, str]:
    """Status, how far the upload is, and the body."""
    headers = {} if content_range is None else {"Content-Range": content_range}
    async with api.session.put(url, data=content, headers=headers, allow_redirects=True) as response:
        return response.status, response.headers.get("Range"), await response.text()


async def test_an_upload_in_parts_is_told_how_far_it_is_until_it_is_whole(api: Api) -> None:
    url, total = await upload_url(api), len(CONTENT)
    assert await put(api, url, b"", f"bytes */{total}") == (308, None, "")
    assert await put(api, url, CONTENT[:99], f"bytes 0-98/{total}") == (308, "bytes=0-98", "")
    assert await put(api, url, b"", f"bytes */{total}") == (308, "bytes=0-98", "")
    status, _, body = await put(api, url, CONTENT[99:], f"bytes 99-{total - 1}/{total}")
    assert status == 200
    assert hashlib.sha256(CONTENT).hexdigest() in body


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes",
        "bytes=0-1/2",
        "bytes 5-4/9",
        "bytes 0-1/*",
        "bytes -5/9",
        "items 0-1/2",
        "bytes 0-9999999999999999999/9",
        f"bytes 5-9/{len(CONTENT)}",
        "bytes 0-1/2",
        f"bytes 0-{len(CONTENT)}/{len(CONTENT)}",
    ],
)
async def test_a_wrong_range_is_refused_by_name(api: Api, content_range: str) -> None:
    status, _, body = await put(api, await upload_url(api), b"12345", content_range)
    assert (status, "content-range: " in body) == (400, True)


async def test_a_part_has_the_length_that_it_says(api: Api) -> None:
    url, total = await upload_url(api), len(CONTENT)
    assert (await put(api, url, b"123456", f"bytes 0-4/{total}"))[0] == 400
    assert (await put(api, url, b"", f"bytes */{total}"))[:2] == (308, None)
    assert (await put(api, url, b"123", f"bytes 0-4/{total}"))[0] == 400
    assert (await put(api, url, b"", f"bytes */{total}"))[:2] == (308, "bytes=0-2")


async def test_two_uploads_of_one_file_at_once_are_one(api: Api) -> None:
    url = await upload_url(api)
    has_begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[:10]
        has_begun.set()
        await may_go_on.wait()
        yield CONTENT[10:]

    async def send() -> int:
        async with api.session.put(url, data=slow()) as response:
            return response.status

    first = asyncio.create_task(send())
    await has_begun.wait()
    while (await put(api, url, b"", f"bytes */{len(CONTENT)}"))[0] != 409:  # noqa: ASYNC110 - only asking tells
        await asyncio.sleep(0.01)
    may_go_on.set()
    assert await first == 200


async def test_a_download_is_an_attachment_and_comes_in_ranges(api: Api) -> None:
    folder = api.services.model_files.directory / "hearth-undeployed"
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread((folder / "config.json").write_bytes, CONTENT)
    headers = api.bearer(Role.ADMIN)
    async with api.session.get(f"{MODELS}/undeployed:getDownloadEndpoint", headers=headers) as response:
        url = (await response.json())["filenameToSignedUrls"]["config.json"]
    async with api.session.get(url) as response:
        assert await response.read() == CONTENT
        assert response.headers["Content-Disposition"] == 'attachment; filename="config.json"'
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Type"] == "application/octet-stream"
        etag = response.headers["ETag"]
    for asked, status, expected in (
        ("bytes=10-19", 206, CONTENT[10:20]),
        ("bytes=-5", 206, CONTENT[-5:]),
        (f"bytes={len(CONTENT)}-", 416, b""),
    ):
        async with api.session.get(url, headers={"Range": asked, "If-Match": etag}) as response:
            assert (response.status, await response.read()) == (status, expected)
    async with api.session.get(url, headers={"If-Match": '"another"'}) as response:
        assert response.status == 412


async def test_who_may_only_ask_a_model_does_not_get_its_files(api: Api) -> None:
    path = f"{MODELS}/undeployed:getDownloadEndpoint"
    async with api.session.get(path, headers=api.bearer(Role.INFERENCE_USER)) as response:
        assert response.status == 403
    async with api.session.get(f"{api.url}/v1/downloads/AAAA/config.json") as response:
        assert response.status == 403
