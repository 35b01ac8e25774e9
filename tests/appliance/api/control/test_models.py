"""Models through the real `fireworks` package, and what it cannot say through plain HTTP."""

import asyncio
from pathlib import Path
from typing import Any

import fireworks
import httpx
import pytest
from fireworks import Fireworks
from fireworks.types import ModelParam

from appliance.domain import Role
from tests.appliance.api.conftest import READY_MODEL, Api

MODELS = "/v1/accounts/hearth/models"
PROPERTIES: ModelParam = {
    "kind": "HF_BASE_MODEL",
    "base_model_details": {"checkpoint_format": "HUGGINGFACE", "world_size": 1},
    "display_name": "Mine",
    "description": "A test",
    "public": True,
}


def upload(client: Fireworks, model_id: str, files: list[Path]) -> list[int]:
    """Statuses of the PUTs."""
    sizes = {file.name: str(file.stat().st_size) for file in files}
    urls = client.models.get_upload_endpoint(model_id, filename_to_size=sizes).filename_to_signed_urls
    assert urls is not None
    assert set(urls) == set(sizes)
    # No key: the URL is the permission.
    return [httpx.put(urls[file.name], content=file.read_bytes()).status_code for file in files]


async def test_a_model_is_created_uploaded_checked_and_ready(admin: Fireworks, checkpoint: Path) -> None:
    def session() -> None:
        created = admin.models.create(model_id="mine", model=PROPERTIES)
        assert (created.name, created.state) == ("accounts/hearth/models/mine", "UPLOADING")
        assert created.base_model_details is None
        files = sorted(checkpoint.iterdir())
        assert upload(admin, "mine", files) == [200] * len(files)
        assert admin.models.validate_upload("mine").warnings == []

        model = admin.models.get("mine")
        assert (model.state, model.kind, model.public) == ("READY", "HF_BASE_MODEL", True)
        assert (model.display_name, model.description) == ("Mine", "A test")
        assert model.status is not None
        assert (model.status.code, model.status.message) == ("OK", "")
        assert model.context_length == 512
        details = model.base_model_details
        assert details is not None
        assert details.parameter_count is not None
        assert int(details.parameter_count) > 100_000
        assert (details.api_model_type, details.checkpoint_format) == ("llama", "HUGGINGFACE")
        assert details.default_precision == "BF16"
        assert model.create_time is not None
        assert model.create_time.tzinfo is not None
        assert model.default_sampling_params == {"temperature": 0.7, "top_p": 0.9, "top_k": 20.0}

        admin.models.delete("mine")
        with pytest.raises(fireworks.NotFoundError):
            admin.models.get("mine")

    await asyncio.to_thread(session)


async def test_a_bad_upload_is_refused_by_name_and_the_model_stays_uploading(
    admin: Fireworks, checkpoint: Path
) -> None:
    def session() -> None:
        admin.models.create(model_id="half", model={"kind": "HF_BASE_MODEL"})
        upload(admin, "half", [checkpoint / "config.json"])
        with pytest.raises(fireworks.BadRequestError) as refused:
            admin.models.validate_upload("half")
        message = refused.value.body["message"]  # type: ignore[index]
        model = admin.models.get("half")
        assert (model.state, model.status.message) == ("UPLOADING", message)  # type: ignore[union-attr]

    await asyncio.to_thread(session)


async def test_lists_are_walked_page_by_page(admin: Fireworks) -> None:
    def session() -> None:
        for number in range(5):
            admin.models.create(model_id=f"m{number}", model={"kind": "HF_BASE_MODEL"})
        page = admin.models.list(page_size=2)
        assert [model.name for model in page.models] == [f"accounts/hearth/models/{name}" for name in ("asleep", "m0")]
        assert page.next_page_token
        names = [model.name.rpartition("/")[2] for model in admin.models.list(page_size=2)]  # type: ignore[union-attr]
        assert names == ["asleep", "m0", "m1", "m2", "m3", "m4", "undeployed"]

    await asyncio.to_thread(session)


async def test_the_library_is_in_sight_and_other_accounts_are_not(admin: Fireworks) -> None:
    def session() -> None:
        assert admin.models.get("tiny", account_id="fireworks").name == READY_MODEL
        # Some clients put the whole name where the id belongs.
        assert admin.models.get(READY_MODEL, account_id="fireworks").name == READY_MODEL
        with pytest.raises(fireworks.NotFoundError):
            admin.models.get("private", account_id="other")
        with pytest.raises(fireworks.NotFoundError):
            list(admin.models.list(account_id="other"))

    await asyncio.to_thread(session)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "modelId"),
        ({"modelId": "Upper"}, "modelId"),
        ({"modelId": 7}, "modelId"),
        ({"modelId": "m", "cluster": "accounts/hearth/clusters/c"}, "cluster"),
        ({"modelId": "m", "model": {"kind": "HF_PEFT_ADDON"}}, "model.peftDetails.baseModel"),
        (
            {"modelId": "m", "model": {"kind": "HF_BASE_MODEL", "peftDetails": {"baseModel": "b"}}},
            "model.peftDetails.baseModel",
        ),
        (
            {"modelId": "m", "model": {"peftDetails": {"mergeAddonModelName": "x"}}},
            "model.peftDetails.mergeAddonModelName",
        ),
        ({"modelId": "m", "model": {"kind": "DRAFT_ADDON"}}, "model.kind"),
        ({"modelId": "m", "model": {"huggingFaceUrl": "http://hub"}}, "model.huggingFaceUrl"),
        ({"modelId": "m", "model": {"githubUrl": "javascript:alert(1)"}}, "model.githubUrl"),
        (
            {"modelId": "m", "model": {"deprecationDate": {"year": 2027, "month": 2, "day": 30}}},
            "model.deprecationDate",
        ),
        ({"modelId": "m", "model": {"deprecationDate": {"month": 13}}}, "model.deprecationDate.month"),
        ({"modelId": "m", "model": {"defaultDraftTokenCount": 4}}, "model.defaultDraftTokenCount"),
        ({"modelId": "m", "model": {"conversationConfig": {"style": "llama"}}}, "model.conversationConfig"),
        ({"modelId": "m", "model": {"conversationConfig": {"template": "{% if"}}}, "model.conversationConfig"),
        ({"modelId": "m", "model": {"snapshotType": "FULL_SNAPSHOT"}}, "model.snapshotType"),
        ({"modelId": "m", "model": {"trainingContextLength": 8}}, "model.trainingContextLength"),
        (
            {"modelId": "m", "model": {"baseModelDetails": {"checkpointFormat": "NATIVE"}}},
            "model.baseModelDetails.checkpointFormat",
        ),
        ({"modelId": "m", "model": {"displayName": "x" * 64}}, "model.displayName"),
    ],
)
async def test_a_field_at_fault_is_named(api: Api, body: dict[str, Any], param: str) -> None:
    async with api.session.post(MODELS, json=body, headers=api.bearer(Role.ADMIN)) as response:
        answer = await response.json()
        assert (response.status, answer["code"]) == (400, 3)
        assert answer["message"].startswith(f"{param}: ")
        assert answer["details"][0]["fieldViolations"][0]["field"] == param


async def test_what_was_read_can_be_sent_back_and_unknown_fields_are_no_obstacle(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    async with api.session.get(f"{MODELS}/undeployed", headers=headers) as response:
        model = await response.json()
    model |= {"peftDetails": None, "supportsTools": False, "fieldOfTomorrow": {"x": 1}, "kind": "KIND_UNSPECIFIED"}
    del model["contextLength"]
    async with api.session.post(MODELS, json={"modelId": "copy", "model": model}, headers=headers) as response:
        copy = await response.json()
        assert response.status == 200, copy
        assert (copy["kind"], copy["state"]) == ("HF_BASE_MODEL", "UPLOADING")


async def test_sizes_are_taken_as_strings_and_as_numbers(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    async with api.session.post(MODELS, json={"modelId": "m"}, headers=headers) as response:
        assert response.status == 200
    url = f"{MODELS}/m:getUploadEndpoint"
    for size in (12, "12"):
        async with api.session.post(url, json={"filenameToSize": {"config.json": size}}, headers=headers) as response:
            assert response.status == 200
    for wrong in (-1, "-1", "12 bytes", "1e3", 1.5, None, 2**63):
        async with api.session.post(url, json={"filenameToSize": {"config.json": wrong}}, headers=headers) as response:
            assert response.status == 400


async def test_an_upload_url_is_good_for_its_file_and_its_size_alone(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    async with api.session.post(MODELS, json={"modelId": "m"}, headers=headers) as response:
        assert response.status == 200
    body = {"filenameToSize": {"config.json": 3}}
    async with api.session.post(f"{MODELS}/m:getUploadEndpoint", json=body, headers=headers) as response:
        url = (await response.json())["filenameToSignedUrls"]["config.json"]
    assert url.startswith(api.url)
    for other, data, status in [
        (url, b"{} ", 200),
        (url, b"{}", 400),
        (url, b"{   }", 400),
        (url.replace("config.json", "evil.json"), b"{} ", 403),
        (f"{api.url}/v1/uploads/AAAA/config.json", b"{} ", 403),
    ]:
        async with api.session.put(other, data=data) as response:
            assert response.status == status


@pytest.mark.parametrize("name", ["skipHfConfigValidation", "trustRemoteCode"])
async def test_a_check_that_would_be_skipped_is_refused_by_name(api: Api, name: str) -> None:
    url = f"{MODELS}/undeployed:validateUpload"
    async with api.session.get(url, params={name: "true"}, headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 400
        assert (await response.json())["message"].startswith(f"{name}: ")
    async with api.session.get(url, params={name: "false"}, headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 200


async def test_a_model_in_use_is_not_deleted(admin: Fireworks) -> None:
    def session() -> None:
        with pytest.raises(fireworks.BadRequestError, match="asleep-deployment"):
            admin.models.delete("asleep")

    await asyncio.to_thread(session)


async def test_inference_keys_may_look_and_not_touch(api: Api) -> None:
    headers = api.bearer(Role.INFERENCE_USER)
    async with api.session.get(f"{MODELS}/asleep", headers=headers) as response:
        assert response.status == 200
    async with api.session.post(MODELS, json={"modelId": "m"}, headers=headers) as response:
        assert response.status == 403
