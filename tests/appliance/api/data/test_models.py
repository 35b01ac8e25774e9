"""The models that a caller can name."""

import pytest
from yarl import URL

from tests.appliance.api.conftest import ASLEEP_MODEL, FOREIGN_MODEL, READY_MODEL, UNDEPLOYED_MODEL, Api


async def test_list_holds_own_and_library_models_and_no_others(api: Api) -> None:
    async with api.session.get("/inference/v1/models", headers=api.bearer()) as response:
        body = await response.json()
    assert body["object"] == "list"
    assert {model["id"] for model in body["data"]} == {READY_MODEL, ASLEEP_MODEL, UNDEPLOYED_MODEL}


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


@pytest.mark.parametrize("name", [FOREIGN_MODEL, "nothing", "accounts/hearth/deployments/x", "accounts/Ä/models/x"])
async def test_what_cannot_be_seen_is_not_found(api: Api, name: str) -> None:
    url = URL(f"{api.url}/v1/models/") / name
    async with api.session.get(url, headers=api.bearer()) as response:
        assert response.status == 404
