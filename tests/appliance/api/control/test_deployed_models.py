"""Deployed models through the real `fireworks` package, and what it cannot say through plain HTTP."""

import asyncio
from typing import Any

import fireworks
import pytest
from fireworks import Fireworks
from msgspec.structs import replace

from appliance.domain import DeployedModel, Deployment, DeploymentState, Model, ModelKind, ModelState, Role
from appliance.store import deployed_models, deployments, models
from models.info import AddonInfo
from tests.appliance.api.conftest import UNDEPLOYED_MODEL, Api

DEPLOYED_MODELS = "/v1/accounts/hearth/deployedModels"
ADDON = "accounts/hearth/models/rhymes"
BLUE = "accounts/hearth/deployments/blue"
OTHERS = ["asleep-deployed"]
"""What the account serves besides."""


@pytest.fixture(autouse=True)
async def rows(api: Api) -> None:
    """Two deployments of one base model, and an addon of that."""
    times = {"created_at": 1.0, "updated_at": 1.0}
    addon = Model(
        account_id="hearth",
        id="rhymes",
        kind=ModelKind.HF_PEFT_ADDON,
        state=ModelState.READY,
        directory="rhymes",
        base_model=UNDEPLOYED_MODEL,
        addon_info=AddonInfo(
            rank=8, scaling=2.0, target_modules=["q_proj"], dtype="bfloat16", num_parameters=1, weight_bytes=2
        ),
        **times,  # type: ignore[arg-type]
    )
    blue = Deployment(
        account_id="hearth",
        id="blue",
        base_model=UNDEPLOYED_MODEL,
        state=DeploymentState.READY,
        desired_replica_count=1,
        enable_addons=True,
        **times,  # type: ignore[arg-type]
    )
    async with api.services.node.database.transaction() as tx:
        await models.insert(tx, addon)
        await deployments.insert(tx, blue)
        await deployments.insert(tx, replace(blue, id="green"))


async def find(api: Api, deployed_model_id: str) -> DeployedModel:
    async with api.services.node.database.reader() as db:
        found = await deployed_models.get(db, "hearth", deployed_model_id)
    assert found is not None
    return found


def last(name: str | None) -> str:
    return (name or "").rpartition("/")[2]


async def test_an_addon_is_loaded_seen_published_and_unloaded(api: Api, admin: Fireworks) -> None:
    def load() -> str:
        loaded = admin.lora.load(model=ADDON, deployment=BLUE, display_name="Rhymes", description="for odes")
        assert (loaded.model, loaded.deployment, loaded.state) == (ADDON, BLUE, "DEPLOYING")
        assert (loaded.display_name, loaded.description) == ("Rhymes", "for odes")
        assert (loaded.default, loaded.public) == (True, False)
        assert loaded.create_time is not None
        return last(loaded.name)

    deployed_model_id = await asyncio.to_thread(load)
    await api.services.deployed_models.observe(await find(api, deployed_model_id), True, False, "")

    def session() -> None:
        seen = admin.lora.get(deployed_model_id)
        assert seen.status is not None
        assert (seen.state, seen.status.code) == ("DEPLOYED", "OK")
        assert admin.lora.get(seen.name or "").name == seen.name  # some clients put the whole name there
        assert admin.lora.update(deployed_model_id, public=True, display_name="Odes").public
        assert [last(each.name) for each in admin.lora.list()] == [*OTHERS, deployed_model_id]
        admin.lora.unload(deployed_model_id)
        assert admin.lora.get(deployed_model_id).state == "UNDEPLOYING"

    await asyncio.to_thread(session)
    await api.services.deployed_models.forget(await find(api, deployed_model_id))

    def after() -> None:
        with pytest.raises(fireworks.NotFoundError):
            admin.lora.get(deployed_model_id)
        assert [last(each.name) for each in admin.lora.list()] == OTHERS

    await asyncio.to_thread(after)


async def test_lists_are_walked_page_by_page_and_filtered_in_both_name_styles(admin: Fireworks) -> None:
    def session() -> None:
        for model, deployment in ((ADDON, "blue"), (ADDON, "green"), (UNDEPLOYED_MODEL, "blue")):
            admin.lora.load(model=model, deployment=deployment, display_name=deployment)
        assert len(list(admin.lora.list(page_size=2))) == 3 + len(OTHERS)
        assert admin.lora.list(page_size=2).next_page_token
        for text, num_found in (
            (f'model="{ADDON}"', 2),
            (f'model="{ADDON}" AND deployment="{BLUE}"', 1),
            ('display_name="blue"', 2),
            ('displayName="blue" AND default=true', 2),
            ('state="DEPLOYING"', 2),
            ('model="nothing"', 0),
        ):
            assert len(list(admin.lora.list(filter=text, page_size=1))) == num_found, text
        for wrong in ('model~"x"', 'age="7"'):
            with pytest.raises(fireworks.BadRequestError, match="filter: "):
                admin.lora.list(filter=wrong)

    await asyncio.to_thread(session)


async def test_the_default_is_moved_and_shown_with_its_model(admin: Fireworks) -> None:
    def session() -> None:
        first, second = (admin.lora.load(model=ADDON, deployment=each) for each in ("blue", "green"))
        with pytest.raises(fireworks.BadRequestError, match="make one of them the default"):
            admin.lora.unload(last(first.name))
        assert admin.lora.update(last(second.name), default=True).default
        refs = admin.models.get("rhymes").deployed_model_refs
        assert refs is not None
        assert [(ref.name, ref.default) for ref in refs] == [(second.name, True), (first.name, False)]
        assert [(ref.deployment, ref.state) for ref in refs][1] == (BLUE, "DEPLOYING")
        assert all(model.deployed_model_refs is None for model in admin.models.list())
        admin.lora.unload(last(first.name))

    await asyncio.to_thread(session)


async def test_what_failed_says_so_in_state_and_status(api: Api, admin: Fireworks) -> None:
    loaded = await asyncio.to_thread(lambda: admin.lora.load(model=ADDON, deployment="blue"))
    name = last(loaded.name)
    for has_failed, state, code in (
        (False, "DEPLOYING", "UNAVAILABLE"),
        (True, "STATE_UNSPECIFIED", "INVALID_ARGUMENT"),
    ):
        await api.services.deployed_models.observe(await find(api, name), False, has_failed, "no such layer")
        seen = await asyncio.to_thread(admin.lora.get, name)
        assert seen.status is not None
        assert (seen.state, seen.status.code, seen.status.message) == (state, code, "no such layer")


async def test_an_addon_shows_its_base_model_rank_and_layers(admin: Fireworks) -> None:
    model = await asyncio.to_thread(admin.models.get, "rhymes")
    assert model.peft_details is not None
    assert (model.kind, model.peft_details.base_model, model.peft_details.r) == ("HF_PEFT_ADDON", UNDEPLOYED_MODEL, 8)
    assert model.peft_details.target_modules == ["q_proj"]
    assert (model.context_length, model.supports_serverless) == (None, False)


@pytest.mark.parametrize(
    ("query", "body", "param"),
    [
        ("?replaceMergedAddon=true", {}, "replaceMergedAddon"),
        ("", {"serverless": True}, "serverless"),
        ("", {"model": None}, "model"),
        ("", {"deployment": "accounts/fireworks/deployments/tiny-deployment"}, "deployment"),
        ("", {"displayName": "x" * 64}, "displayName"),
        ("", {"model": UNDEPLOYED_MODEL, "deployment": "asleep-deployment"}, "deployment"),
    ],
)
async def test_a_field_at_fault_is_named(api: Api, query: str, body: dict[str, Any], param: str) -> None:
    asked = {"model": ADDON, "deployment": BLUE, "serverless": False} | body
    headers = api.bearer(Role.ADMIN)
    async with api.session.post(f"{DEPLOYED_MODELS}{query}", json=asked, headers=headers) as response:
        answer = await response.json()
        assert response.status in (400, 404)
        assert answer["message"].startswith(f"{param}: ")


async def test_inference_keys_may_look_and_not_touch(api: Api) -> None:
    headers = api.bearer(Role.INFERENCE_USER)
    async with api.session.get(DEPLOYED_MODELS, headers=headers) as response:
        assert response.status == 200
        assert (await response.json())["totalSize"] == len(OTHERS)
    async with api.session.post(DEPLOYED_MODELS, json={"model": ADDON}, headers=headers) as response:
        assert response.status == 403


async def test_a_request_for_an_addon_names_it_to_the_worker(api: Api, admin: Fireworks) -> None:
    loaded = await asyncio.to_thread(lambda: admin.lora.load(model=ADDON, deployment="blue"))
    for model, adapter in ((ADDON, loaded.name), (BLUE, ""), (f"{ADDON}#{BLUE}", loaded.name)):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        async with api.session.post("/v1/chat/completions", json=body, headers=api.bearer()) as response:
            assert response.status == 200
            assert (await response.json())["model"] == model
        assert api.router.submits[-1].adapter == adapter
