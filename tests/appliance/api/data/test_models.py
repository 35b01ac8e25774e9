"""The models that a caller can name."""

import asyncio

import pytest
from msgspec.structs import replace
from yarl import URL

from appliance.store import deployments, models
from tests.appliance.api.conftest import ASLEEP_MODEL, FOREIGN_MODEL, READY_MODEL, UNDEPLOYED_MODEL, Api


async def test_list_holds_what_can_be_asked_and_no_others(api: Api) -> None:
    async with api.session.get("/inference/v1/models", headers=api.bearer()) as response:
        body = await response.json()
    assert body["object"] == "list"
    assert {model["id"] for model in body["data"]} == {READY_MODEL, ASLEEP_MODEL}


async def test_model_has_the_fields_that_clients_read(api: Api) -> None:
    async with api.session.get(f"/inference/v1/models/{READY_MODEL}", headers=api.bearer()) as response:
        body = await response.json()
    assert body.pop("created") > 0
    assert body == {
        "id": READY_MODEL,
        "object": "model",
        "owned_by": "fireworks",
        "kind": "HF_BASE_MODEL",
        "supports_chat": True,
        "supports_image_input": False,
        "supports_tools": False,
        "context_length": 512,
    }


async def test_a_serverless_model_is_listed_and_its_first_requests_share_one_deployment(api: Api) -> None:
    database = api.services.node.database
    async with database.transaction() as tx:
        tiny = await models.get(tx.connection, "fireworks", "tiny")
        assert tiny is not None
        await models.insert(tx, replace(tiny, id="ember", directory="ember", is_serverless=True))
    async with api.session.get("/v1/models", headers=api.bearer()) as response:
        assert "accounts/fireworks/models/ember" in {model["id"] for model in (await response.json())["data"]}

    async def ask(model: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        async with api.session.post("/v1/chat/completions", json=body, headers=api.bearer()) as response:
            return response.status

    names = ("ember", "accounts/fireworks/models/ember", "accounts/fireworks/deployments/ember")
    assert await asyncio.gather(*(ask(name) for name in 3 * names)) == 9 * [200]
    async with database.reader() as db:
        (made,) = [each for each in await deployments.list_in_account(db, "fireworks", False) if each.is_serverless]
    assert (made.id, made.desired_replica_count) == ("ember", 1)


@pytest.mark.parametrize(
    "name",
    [FOREIGN_MODEL, UNDEPLOYED_MODEL, "nothing", "accounts/hearth/deployments/x", "accounts/Ä/models/x"],
)
async def test_what_cannot_be_asked_is_not_found(api: Api, name: str) -> None:
    url = URL(f"{api.url}/v1/models/") / name
    async with api.session.get(url, headers=api.bearer()) as response:
        assert response.status == 404
