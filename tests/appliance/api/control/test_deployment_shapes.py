"""Shapes through the real `fireworks` package and through plain HTTP."""

import asyncio
from typing import Any

import fireworks
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import FOREIGN_MODEL, INFO, READY_MODEL, Api

LIBRARY = "/v1/accounts/fireworks/deploymentShapes"
IDS = ["fast", "minimal", "throughput"]


async def get(api: Api, path: str) -> Any:
    async with api.session.get(path, headers=api.bearer()) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def test_the_shapes_are_the_librarys(api: Api, admin: Fireworks) -> None:
    listed = await get(api, LIBRARY)
    assert [shape["name"] for shape in listed["deploymentShapes"]] == [
        f"accounts/fireworks/deploymentShapes/{shape_id}" for shape_id in IDS
    ]
    assert [shape["presetType"] for shape in listed["deploymentShapes"]] == ["FAST", "MINIMAL", "THROUGHPUT"]
    assert (await get(api, "/v1/accounts/hearth/deploymentShapes"))["totalSize"] == 0
    shape = await asyncio.to_thread(admin.deployment_shapes.get, "minimal", account_id="fireworks")
    assert (shape.preset_type, shape.base_model) == ("MINIMAL", "")


async def test_each_has_one_version(api: Api) -> None:
    for shape_id, num_versions in (("fast", 1), ("-", 3)):
        listed = await get(api, f"{LIBRARY}/{shape_id}/versions")
        assert listed["totalSize"] == num_versions
    version = await get(api, f"{LIBRARY}/fast/versions/v1")
    assert version == listed["deploymentShapeVersions"][0]
    assert version["name"] == "accounts/fireworks/deploymentShapes/fast/versions/v1"
    assert (version["validated"], version["snapshot"]["presetType"]) == (True, "FAST")


@pytest.mark.parametrize(
    "path",
    [
        f"{LIBRARY}/huge",
        f"{LIBRARY}/huge/versions",
        f"{LIBRARY}/fast/versions/v2",
        "/v1/accounts/hearth/deploymentShapes/fast",
        "/v1/accounts/other/deploymentShapes",
    ],
)
async def test_others_do_not_exist(api: Api, path: str) -> None:
    async with api.session.get(path, headers=api.bearer()) as response:
        assert response.status == 404


async def test_a_model_is_matched_with_the_numbers_it_would_have_here(api: Api, admin: Fireworks) -> None:
    matched = await asyncio.to_thread(admin.deployment_shape_versions.match_for_model, READY_MODEL, enable_addons=True)
    assert matched.total_size == 3
    assert matched.deployment_shape_versions is not None
    for version in matched.deployment_shape_versions:
        assert version.snapshot is not None
        shown = version.snapshot
        assert (shown.base_model, shown.accelerator_type, shown.accelerator_count) == (
            READY_MODEL,
            "NVIDIA_H100_80GB",
            1,
        )
        assert (shown.max_context_length, shown.parameter_count) == (INFO.max_context_length, "1000")
        assert shown.enable_addons is True
        assert (shown.num_lora_device_cached or 0) > 0
    created = await asyncio.to_thread(
        admin.deployments.create,
        base_model=READY_MODEL,
        deployment_shape=matched.deployment_shape_versions[1].snapshot.name,  # type: ignore[union-attr,arg-type]
        validate_only=True,
    )
    assert created.deployment_shape == "accounts/fireworks/deploymentShapes/minimal/versions/v1"
    with pytest.raises(fireworks.NotFoundError):
        await asyncio.to_thread(admin.deployment_shape_versions.match_for_model, FOREIGN_MODEL)


async def test_a_list_for_a_model_has_its_numbers(api: Api) -> None:
    listed = await get(api, f"{LIBRARY}?targetModel={READY_MODEL}")
    sizes = {shape["presetType"]: int(shape["memoryBytes"]) for shape in listed["deploymentShapes"]}
    assert sizes["MINIMAL"] < sizes["FAST"] < sizes["THROUGHPUT"]


OWN = "/v1/accounts/hearth/deploymentShapes"


async def ask(api: Api, method: str, path: str, body: object = None, role: Role = Role.USER) -> tuple[int, Any]:
    async with api.session.request(method, path, json=body, headers=api.bearer(role)) as response:
        return response.status, await response.json()


async def create_own(api: Api, **changes: object) -> Any:
    body = {"baseModel": READY_MODEL, "precision": "FP32", "presetType": "MINIMAL", "displayName": "Exact"} | changes
    status, made = await ask(api, "POST", f"{OWN}?deploymentShapeId=exact", body)
    assert status == 200, made
    return made


async def test_an_account_makes_a_shape_and_a_change_is_a_new_version(api: Api) -> None:
    made = await create_own(api)
    assert (made["name"], made["precision"]) == ("accounts/hearth/deploymentShapes/exact", "FP32")
    assert await ask(api, "GET", f"{OWN}/exact") == (200, made)
    status, changed = await ask(api, "PATCH", f"{OWN}/exact", made | {"maxContextLength": 128})
    assert (status, changed["maxContextLength"], changed["precision"]) == (200, 128, "FP32")
    versions = (await ask(api, "GET", f"{OWN}/exact/versions?orderBy=name"))[1]["deploymentShapeVersions"]
    assert [(each["name"][-2:], each["latestValidated"]) for each in versions] == [("v1", False), ("v2", True)]
    assert versions[0]["snapshot"] == made
    assert (await ask(api, "GET", f"{OWN}/exact/versions/v1"))[1] == versions[0]
    listed = (await ask(api, "GET", f"{OWN}?targetModel=tiny"))[1]
    assert listed["deploymentShapes"] == [changed]
    assert (await ask(api, "GET", f"{OWN}?targetModel=asleep"))[1]["deploymentShapes"] == []
    assert await ask(api, "DELETE", f"{OWN}/exact") == (200, {})
    assert (await ask(api, "GET", f"{OWN}/exact"))[0] == 404


async def test_a_mask_says_what_of_a_shape_changes(api: Api) -> None:
    await create_own(api)
    body = {"displayName": "renamed", "maxContextLength": 128}
    status, changed = await ask(api, "PATCH", f"{OWN}/exact?updateMask=display_name,precision", body)
    assert (status, changed["displayName"]) == (200, "renamed")
    assert changed.keys().isdisjoint({"precision", "maxContextLength"}), "one was unset, the other left alone"
    assert (await ask(api, "PATCH", f"{OWN}/exact?updateMask=sails", body))[0] == 400


async def test_a_deployment_takes_over_what_its_shape_says(api: Api) -> None:
    await create_own(api)
    path = "/v1/accounts/hearth/deployments?validateOnly=true"
    status, would_be = await ask(api, "POST", path, {"baseModel": READY_MODEL, "deploymentShape": "exact"})
    assert status == 200, would_be
    assert would_be["deploymentShape"] == "accounts/hearth/deploymentShapes/exact/versions/v1"
    assert would_be["precision"] == "FP32"
    body = {"baseModel": READY_MODEL, "deploymentShape": "exact", "precision": "BF16"}
    status, answer = await ask(api, "POST", path, body)
    assert (status, answer["message"].split(":")[0]) == (400, "precision")
    status, would_be = await ask(api, "POST", f"{path}&skipShapeValidation=true", body)
    assert (status, would_be["precision"]) == (200, "BF16")


async def test_a_version_is_shared_with_other_accounts(api: Api) -> None:
    await create_own(api)
    version = f"{OWN}/exact/versions/v1"
    status, shared = await ask(api, "PATCH", version, {"public": True})
    assert (status, shared["public"]) == (200, True)
    assert (await ask(api, "PATCH", version, {}))[1] == shared
    assert (await ask(api, "PATCH", f"{version}?updateMask=validated", {"public": False}))[1] == shared
    assert (await ask(api, "PATCH", version, {"validated": False}))[0] == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "baseModel"),
        ({"baseModel": "nobody-knows"}, "baseModel"),
        ({"baseModel": READY_MODEL, "precision": "FP4"}, "precision"),
        ({"baseModel": READY_MODEL, "acceleratorCount": 99}, "acceleratorCount"),
        ({"baseModel": READY_MODEL, "maxContextLength": 10**6}, "maxContextLength"),
        ({"baseModel": READY_MODEL, "presetType": "CHAT"}, "presetType"),
        ({"baseModel": READY_MODEL, "numLoraDeviceCached": 3}, "numLoraDeviceCached"),
    ],
)
async def test_what_no_deployment_could_have_is_refused_by_name(api: Api, body: dict[str, Any], param: str) -> None:
    status, answer = await ask(api, "POST", OWN, body)
    assert (status in (400, 404), answer["message"].split(":")[0]) == (True, param), answer


async def test_presets_neither_change_nor_go(api: Api) -> None:
    for method, body in (("PATCH", {"displayName": "x"}), ("DELETE", None)):
        assert (await ask(api, method, f"{LIBRARY}/fast", body, Role.ADMIN))[0] == 403
    status, _ = await ask(api, "POST", f"{LIBRARY}?deploymentShapeId=fast", {"baseModel": READY_MODEL}, Role.ADMIN)
    assert status == 409
