import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from appliance.domain import Model, ModelKind, ModelState, Principal, Role
from appliance.errors import Code, HearthError
from appliance.services.models import FILES_MAX, Models
from appliance.services.uploads import URL_LIFETIME_S
from appliance.store import deployed_models, models
from appliance.store.database import Database
from tests.appliance.services.samples import (
    ADA,
    GUS,
    HOME_ADMIN,
    account,
    addon,
    deployed,
    deployment,
    model,
    principal,
    put,
)
from tests.fakes.fake_clock import FakeClock
from tests.fakes.tiny_addon import build_tiny_addon

BOB = principal("acme", "bob", Role.CONTRIBUTOR)


async def create(service: Models, who: Principal = ADA, model_id: str = "poet", *, is_public: bool = False) -> Model:
    return await service.create(
        who,
        who.account_id,
        model_id,
        display_name="Poet",
        description="rhymes",
        kind=ModelKind.HF_BASE_MODEL,
        is_public=is_public,
    )


async def stream(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


async def upload(service: Models, files: dict[str, bytes], who: Principal = ADA, model_id: str = "poet") -> None:
    sizes = {name: len(content) for name, content in files.items()}
    urls = await service.upload_urls(who, who.account_id, model_id, sizes, "http://box:8080")
    for name, url in urls.items():
        await service.receive_file(*token_and_filename(url), stream(files[name]))


def token_and_filename(url: str) -> tuple[str, str]:
    path = urlsplit(url).path.removeprefix("/v1/uploads/")
    token, _, filename = path.partition("/")
    return token, filename


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def refusal(attempt: object) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value


async def test_an_uploaded_folder_becomes_a_model_that_can_be_deployed(
    models_service: Models, tiny_model: Path, models_dir: Path, uploads_dir: Path
) -> None:
    created = await create(models_service)
    assert (created.state, created.created_by, created.name) == (
        ModelState.UPLOADING,
        "ada",
        "accounts/acme/models/poet",
    )
    files = read_files(tiny_model)
    await upload(models_service, files)
    assert read_files(models_dir / created.directory) == files
    assert await models_service.validate_upload(ADA, "acme", "poet") == []
    ready = await models_service.get(ADA, "acme", "poet")
    assert ready.state is ModelState.READY
    assert ready.info is not None
    assert ready.info.architecture == "LlamaForCausalLM"
    assert os.listdir(uploads_dir) == []


async def test_validation_can_be_asked_for_again(models_service: Models, tiny_model: Path, models_dir: Path) -> None:
    created = await create(models_service)
    await upload(models_service, {**read_files(tiny_model), "custom_code.py": b"raise SystemExit"})
    first = await asyncio.gather(*(models_service.validate_upload(ADA, "acme", "poet") for _ in range(3)))
    (models_dir / created.directory / "config.json").write_text("no longer looked at")
    assert [await models_service.validate_upload(ADA, "acme", "poet")] * 3 == first


async def test_a_refused_folder_says_which_file_and_why_and_can_be_mended(
    models_service: Models, tiny_model: Path
) -> None:
    await create(models_service)
    files = read_files(tiny_model)
    await upload(models_service, {**files, "model.safetensors": b"\xff" * 100})
    error = await refusal(models_service.validate_upload(ADA, "acme", "poet"))
    assert error.code is Code.INVALID
    assert error.reason == "corrupt_weights"
    assert "model.safetensors" in error.message
    refused = await models_service.get(ADA, "acme", "poet")
    assert (refused.state, refused.status_message) == (ModelState.UPLOADING, error.message)
    await upload(models_service, {"model.safetensors": files["model.safetensors"]})
    await models_service.validate_upload(ADA, "acme", "poet")
    mended = await models_service.get(ADA, "acme", "poet")
    assert (mended.state, mended.status_message) == (ModelState.READY, "")


async def test_nothing_uploaded_is_refused(models_service: Models) -> None:
    await create(models_service)
    assert (await refusal(models_service.validate_upload(ADA, "acme", "poet"))).code is Code.INVALID


async def test_a_ready_model_takes_no_more_files(models_service: Models, tiny_model: Path) -> None:
    await create(models_service)
    urls = await models_service.upload_urls(ADA, "acme", "poet", {"late.json": 2}, "")
    await upload(models_service, read_files(tiny_model))
    await models_service.validate_upload(ADA, "acme", "poet")
    for attempt in (
        models_service.upload_urls(ADA, "acme", "poet", {"late.json": 2}, ""),
        models_service.receive_file(*token_and_filename(urls["late.json"]), stream(b"{}")),
    ):
        assert (await refusal(attempt)).code is Code.FAILED_PRECONDITION


async def test_a_file_that_arrives_while_the_folder_is_inspected_comes_too_late(
    models_service: Models, tiny_model: Path, models_dir: Path
) -> None:
    created = await create(models_service)
    files = read_files(tiny_model)
    urls = await models_service.upload_urls(ADA, "acme", "poet", {"config.json": 2}, "")
    await upload(models_service, files)
    validation = asyncio.create_task(models_service.validate_upload(ADA, "acme", "poet"))
    late = asyncio.create_task(models_service.receive_file(*token_and_filename(urls["config.json"]), stream(b"{}")))
    await asyncio.gather(validation, late, return_exceptions=True)
    model = await models_service.get(ADA, "acme", "poet")
    # Whoever came first, what was inspected is what lies there.
    is_late = isinstance(late.exception(), HearthError)
    assert (model.state is ModelState.READY) is is_late
    assert ((models_dir / created.directory / "config.json").read_bytes() == files["config.json"]) is is_late


async def test_an_url_of_a_deleted_model_is_not_good_for_a_new_one_of_the_same_name(models_service: Models) -> None:
    await create(models_service)
    urls = await models_service.upload_urls(ADA, "acme", "poet", {"config.json": 2}, "")
    await models_service.delete(ADA, "acme", "poet")
    target = token_and_filename(urls["config.json"])
    assert (await refusal(models_service.receive_file(*target, stream(b"{}")))).code is Code.NOT_FOUND
    await create(models_service)
    assert (await refusal(models_service.receive_file(*target, stream(b"{}")))).code is Code.NOT_FOUND


async def test_an_url_ends_with_its_time(models_service: Models, clock: FakeClock) -> None:
    await create(models_service)
    urls = await models_service.upload_urls(ADA, "acme", "poet", {"config.json": 2}, "")
    clock.advance(URL_LIFETIME_S)
    attempt = models_service.receive_file(*token_and_filename(urls["config.json"]), stream(b"{}"))
    assert (await refusal(attempt)).code is Code.FORBIDDEN


@pytest.mark.parametrize(
    ("sizes", "code"),
    [
        ({}, Code.INVALID),
        ({f"f{number}": 1 for number in range(FILES_MAX + 1)}, Code.INVALID),
        ({"../x": 1}, Code.INVALID),
        ({"x": -1}, Code.TOO_LARGE),
        ({"x": 2**31}, Code.TOO_LARGE),
    ],
)
async def test_uploads_that_cannot_be_are_refused_when_announced(
    models_service: Models, sizes: dict[str, int], code: Code
) -> None:
    await create(models_service)
    error = await refusal(models_service.upload_urls(ADA, "acme", "poet", sizes, ""))
    assert (error.code, error.param) == (code, "filenameToSize")


async def test_urls_lead_to_the_address_that_was_asked(models_service: Models) -> None:
    await create(models_service)
    urls = await models_service.upload_urls(ADA, "acme", "poet", {"config.json": 2}, "https://box.test")
    assert urls["config.json"].startswith("https://box.test/v1/uploads/")
    assert urls["config.json"].endswith("/config.json")


@pytest.mark.parametrize("model_id", ["", "Poet", "1poet", "-poet", "p" * 64, "po/et", "../poet"])
async def test_ids_follow_the_rules(models_service: Models, model_id: str) -> None:
    error = await refusal(create(models_service, model_id=model_id))
    assert (error.code, error.param) == (Code.INVALID, "modelId")


async def test_a_name_is_taken_once_per_account(models_service: Models) -> None:
    await create(models_service)
    assert (await refusal(create(models_service))).code is Code.CONFLICT
    await create(models_service, GUS)


async def test_texts_have_limits(models_service: Models) -> None:
    for display_name, description in (("x" * 64, ""), ("", "x" * 1001)):
        attempt = models_service.create(
            ADA,
            "acme",
            "poet",
            display_name=display_name,
            description=description,
            kind=ModelKind.HF_BASE_MODEL,
            is_public=False,
        )
        assert (await refusal(attempt)).code is Code.INVALID


async def test_others_see_public_models_once_they_are_ready(models_service: Models, database: Database) -> None:
    await put(
        database,
        model("globex", "diary"),
        model("globex", "draft", is_public=True, state=ModelState.UPLOADING),
        model("globex", "song", is_public=True),
        model("library", "shared"),
        model("acme", "own", state=ModelState.UPLOADING),
        model("acme", "poet"),
    )
    assert [found.id for found in await models_service.list(ADA, "acme")] == ["own", "poet"]
    assert [found.id for found in await models_service.list(ADA, "globex")] == ["song"]
    assert [found.id for found in await models_service.list(ADA, "library")] == ["shared"]
    assert (await models_service.get(ADA, "globex", "song")).is_public
    for model_id in ("diary", "draft", "nothing"):
        assert (await refusal(models_service.get(ADA, "globex", model_id))).code is Code.NOT_FOUND


async def test_an_account_with_nothing_to_see_does_not_exist(models_service: Models, database: Database) -> None:
    await put(database, model("globex", "diary"))
    assert (await refusal(models_service.list(ADA, "globex"))).code is Code.NOT_FOUND
    assert await models_service.list(ADA, "acme") == []


async def test_models_are_changed_by_those_who_may(models_service: Models, database: Database) -> None:
    await put(database, account("home"), model("globex", "song", is_public=True), model("library", "shared"))
    await create(models_service)
    for who, account_id, model_id, code in (
        (BOB, "acme", "poet", Code.FORBIDDEN),
        (GUS, "acme", "poet", Code.NOT_FOUND),
        (ADA, "globex", "song", Code.FORBIDDEN),
        (ADA, "library", "shared", Code.FORBIDDEN),
    ):
        for attempt in (
            models_service.delete(who, account_id, model_id),
            models_service.upload_urls(who, account_id, model_id, {"x": 1}, ""),
            models_service.validate_upload(who, account_id, model_id),
        ):
            assert (await refusal(attempt)).code is code
    await create(models_service, BOB, "bobs")
    await models_service.delete(BOB, "acme", "bobs")
    await models_service.delete(HOME_ADMIN, "library", "shared")


async def test_a_model_is_deleted_with_its_files(models_service: Models, models_dir: Path) -> None:
    await create(models_service)
    await upload(models_service, {"config.json": b"{}"})
    assert len(os.listdir(models_dir)) == 1
    deleted: list[str] = []
    models_service.on_delete = deleted.append
    await models_service.delete(ADA, "acme", "poet")
    assert os.listdir(models_dir) == []
    assert deleted == ["accounts/acme/models/poet"]
    assert (await refusal(models_service.get(ADA, "acme", "poet"))).code is Code.NOT_FOUND
    assert (await refusal(models_service.delete(ADA, "acme", "poet"))).code is Code.NOT_FOUND


async def test_a_model_in_use_stays_and_names_only_ones_own_deployments(
    models_service: Models, database: Database
) -> None:
    song, poet = model("acme", "song", is_public=True), model("acme", "poet")
    await put(database, song, poet, deployment("globex", "secret", song.name), deployment("acme", "fast", poet.name))
    error = await refusal(models_service.delete(ADA, "acme", "song"))
    assert error.code is Code.FAILED_PRECONDITION
    assert "secret" not in error.message
    assert "fast" in (await refusal(models_service.delete(ADA, "acme", "poet"))).message


async def test_the_sweep_removes_what_nothing_refers_to(
    models_service: Models, database: Database, models_dir: Path, uploads_dir: Path
) -> None:
    created = await create(models_service)
    await upload(models_service, {"config.json": b"{}"})
    (uploads_dir / "half").write_bytes(b"x")
    (uploads_dir / "folder").mkdir()
    (models_dir / "orphan").mkdir()
    (models_dir / "orphan" / "config.json").write_text("{}")
    (models_dir / "stray").write_text("x")
    await models_service.sweep()
    assert os.listdir(uploads_dir) == []
    assert os.listdir(models_dir) == [created.directory]
    assert read_files(models_dir / created.directory) == {"config.json": b"{}"}
    async with database.reader() as db:
        assert await models.list_directories(db) == {created.directory}


async def test_what_a_request_can_name_is_listed(models_service: Models, database: Database) -> None:
    """Own models, then the library's, then public ones; deployed within reach, or serverless."""
    poet, idle = model("acme", "poet"), model("acme", "idle")
    rhymes = addon("acme", "rhymes", poet)
    song, tune = model("globex", "song", is_public=True), model("globex", "tune", is_public=True)
    ember = replace(model("library", "ember"), is_serverless=True)
    at_acme, at_globex = deployment("acme", "blue", poet.name), deployment("globex", "red", song.name)
    await put(database, poet, idle, rhymes, song, tune, ember, model("library", "shared"), at_acme, at_globex)
    await put(database, deployed(at_acme, "base"), deployed(at_acme, "loaded", model=rhymes))
    await put(database, deployed(at_globex, "base", is_public=True), deployed(at_globex, "tune", model=tune))
    askable = await models_service.list_askable(ADA)
    assert [found.model for found in askable] == [poet, rhymes, ember, song]
    assert [found.info for found in askable if found.model == rhymes] == [poet.info]
    assert (await models_service.get_askable(ADA, "library", "ember")).model == ember
    for account_id, model_id in (("acme", "idle"), ("library", "shared"), ("globex", "tune"), ("acme", "nothing")):
        assert (await refusal(models_service.get_askable(ADA, account_id, model_id))).code is Code.NOT_FOUND


async def create_addon(service: Models, base_model: str | None, model_id: str = "rhymes") -> Model:
    return await service.create(
        ADA,
        "acme",
        model_id,
        display_name="",
        description="",
        kind=ModelKind.HF_PEFT_ADDON,
        is_public=False,
        base_model=base_model,
    )


async def test_an_uploaded_addon_is_checked_against_its_base_model(
    models_service: Models, tiny_model: Path, tmp_path: Path
) -> None:
    await create(models_service)
    created = await create_addon(models_service, "poet")
    assert created.base_model == "accounts/acme/models/poet"
    folder = build_tiny_addon(tmp_path / "addon", tiny_model, target_modules=["q_proj"])
    await upload(models_service, read_files(folder), model_id="rhymes")
    not_ready = await refusal(models_service.validate_upload(ADA, "acme", "rhymes"))
    assert (not_ready.code, not_ready.param) == (Code.FAILED_PRECONDITION, "model.peftDetails.baseModel")
    await upload(models_service, read_files(tiny_model))
    await models_service.validate_upload(ADA, "acme", "poet")
    for _ in range(2):
        await models_service.validate_upload(ADA, "acme", "rhymes")
    ready = await models_service.get(ADA, "acme", "rhymes")
    assert (ready.state, ready.info) == (ModelState.READY, None)
    assert ready.addon_info is not None
    assert ready.addon_info.target_modules == ["q_proj"]


async def test_what_is_no_addon_of_that_base_is_refused_and_said(models_service: Models, tiny_model: Path) -> None:
    await create(models_service)
    files = read_files(tiny_model)
    await upload(models_service, files)
    await models_service.validate_upload(ADA, "acme", "poet")
    await create_addon(models_service, "acme/poet")
    await upload(models_service, files, model_id="rhymes")
    refused = await refusal(models_service.validate_upload(ADA, "acme", "rhymes"))
    assert refused.code is Code.INVALID
    assert (await models_service.get(ADA, "acme", "rhymes")).status_message == refused.message


async def test_an_addon_needs_a_base_model_in_sight_that_is_no_addon(
    models_service: Models, database: Database
) -> None:
    poet, diary = model("acme", "poet"), model("globex", "diary")
    await put(database, poet, diary, addon("acme", "first", poet))
    for base_model, code in (
        (None, Code.INVALID),
        ("acme/first", Code.INVALID),
        ("nothing", Code.NOT_FOUND),
        (diary.name, Code.NOT_FOUND),
    ):
        refused = await refusal(create_addon(models_service, base_model))
        assert (refused.code, refused.param) == (code, "model.peftDetails.baseModel")


async def test_a_deployed_addon_is_not_deleted(models_service: Models, database: Database) -> None:
    poet = model("acme", "poet")
    rhymes = replace(addon("acme", "rhymes", poet), is_public=True)
    blue = deployment("acme", "blue", poet.name)
    await put(database, poet, rhymes, blue, deployed(blue, "loaded", model=rhymes))
    refused = await refusal(models_service.delete(ADA, "acme", "rhymes"))
    assert refused.code is Code.FAILED_PRECONDITION
    assert "accounts/acme/deployedModels/loaded" in refused.message
    async with database.transaction() as tx:
        await deployed_models.delete(tx, "acme", "loaded")
    await models_service.delete(ADA, "acme", "rhymes")
