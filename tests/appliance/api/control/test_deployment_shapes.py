"""Shapes through the real `fireworks` package and through plain HTTP."""

import asyncio
from typing import Any

import fireworks
import pytest
from fireworks import Fireworks

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
