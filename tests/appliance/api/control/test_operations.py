import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.config import Config, ImportSettings
from appliance.domain import Role
from tests.appliance.api.conftest import Api

ACCOUNT = "/v1/accounts/hearth"


@pytest.fixture
def config(config: Config, checkpoint: Path) -> Config:
    return replace(config, imports=ImportSettings(import_roots=[str(checkpoint.parent)]))


async def post(api: Api, path: str, body: dict[str, Any], role: Role = Role.ADMIN) -> tuple[int, Any]:
    async with api.session.post(f"{ACCOUNT}/{path}", json=body, headers=api.bearer(role)) as response:
        return response.status, await response.json()


async def get(api: Api, path: str) -> Any:
    async with api.session.get(f"{ACCOUNT}/{path}", headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def ended(api: Api, name: str) -> Any:
    path = name.removeprefix("accounts/hearth/")
    while not (operation := await get(api, path))["done"]:  # noqa: ASYNC110 - only asking tells
        await asyncio.sleep(0.02)
    return operation


async def test_an_import_is_an_operation_that_ends_with_the_model(api: Api, checkpoint: Path) -> None:
    body = {"localPath": str(checkpoint), "model": {"displayName": "From disk"}}
    status, started = await post(api, "models/mine:import", body)
    assert (status, started["done"], started["metadata"]["model"]) == (200, False, "accounts/hearth/models/mine")
    done = await ended(api, started["name"])
    assert done["response"]["@type"].endswith("Model")
    assert (done["response"]["state"], done["response"]["displayName"]) == ("READY", "From disk")
    assert done["response"]["importedFrom"] == f"file:{checkpoint.name}"
    told = done["metadata"]
    assert (told["percent"], told["progressBytes"], told["state"]) == (100, told["totalBytes"], "DONE")
    assert "error" not in done
    listed = await get(api, "operations?filter=done=true")
    assert [operation["name"] for operation in listed["operations"]] == [started["name"]]
    assert (await post(api, f"{started['name'].removeprefix('accounts/hearth/')}:cancel", {})) == (200, {})


async def test_an_import_that_fails_says_why(api: Api, checkpoint: Path) -> None:
    _, started = await post(api, "models/mine:import", {"localPath": str(checkpoint.parent / "missing")})
    failed = await ended(api, started["name"])
    assert (failed["error"]["code"], "response" in failed) == (3, False)
    assert failed["error"]["message"].startswith("localPath: ")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "localPath"),
        ({"localPath": "/x", "huggingFaceUrl": "o/n"}, "localPath"),
        ({"localPath": "/etc"}, "localPath"),
        ({"huggingFaceUrl": "o/n"}, "huggingFaceUrl"),
    ],
)
async def test_what_the_operator_does_not_allow_is_refused_before_anything_is_made(
    api: Api, body: dict[str, Any], param: str
) -> None:
    status, answer = await post(api, "models/mine:import", body)
    assert (status, answer["message"].startswith(f"{param}: ")) == (400, True)
    assert (await get(api, "operations"))["operations"] == []
    async with api.session.get(f"{ACCOUNT}/models/mine", headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 404


async def test_inference_keys_import_nothing(api: Api) -> None:
    assert (await post(api, "models/mine:import", {"localPath": "/x"}, Role.INFERENCE_USER))[0] == 403
