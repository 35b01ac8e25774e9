import gzip
import re

import pytest

from appliance.api.control.docs import ASSETS, DIRECTORY
from tests.appliance.api.conftest import Api


async def test_the_document_is_public_and_whole(api: Api) -> None:
    async with api.session.get("/openapi.json") as response:
        assert response.status == 200
        document = await response.json()
    assert document["openapi"] == "3.1.0"
    assert {"/inference/v1/chat/completions", "/docs"} <= set(document["paths"])


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/{name}" for name in ASSETS)])
async def test_the_page_and_its_parts_run_nothing_from_elsewhere(api: Api, path: str) -> None:
    async with api.session.get(path) as response:
        assert response.status == 200
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert await response.read()


async def test_the_page_names_only_parts_that_are_there(api: Api) -> None:
    async with api.session.get("/docs") as response:
        page = await response.text()
    named = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert set(named) - {"data:,", "/openapi.json"} == {f"/docs/{name}" for name in ASSETS if name != "LICENSE"}
    assert "<script>" not in page, "the policy would not let it run"
    async with api.session.get("/docs/secrets.js") as response:
        assert response.status == 404


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_client_that_cannot_decompress_gets_it_plain(api: Api, encoding: str) -> None:
    plain = gzip.decompress((DIRECTORY / "swagger-ui.css.gz").read_bytes())
    async with api.session.get("/docs/swagger-ui.css", headers={"Accept-Encoding": encoding}) as response:
        assert response.headers.get("Content-Encoding", "identity") == encoding
        assert await response.read() == plain


def test_the_licence_of_what_is_not_ours_lies_beside_it() -> None:
    assert "Apache License" in (DIRECTORY / "LICENSE").read_text()
    assert "swagger-ui-dist" in (DIRECTORY / "README.md").read_text()
