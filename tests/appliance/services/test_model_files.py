import asyncio
import os
from pathlib import Path

import pytest

from appliance.domain import ModelKind, ModelState, Quota, QuotaMetric
from appliance.errors import Code, HearthError
from appliance.services.grants import URL_LIFETIME_S
from appliance.services.model_spec import ModelAsk
from appliance.services.transfers import FILES_MAX
from appliance.store import models, quotas
from appliance.store.database import Database
from models.info import EmbeddingInfo, ModelInfo
from tests.appliance.services.model_world import BASE, ModelWorld, read_files, refusal, token_and_filename
from tests.appliance.services.samples import ADA, model, put
from tests.fakes.fake_clock import FakeClock
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_diffusion import build_tiny_lora, build_tiny_sdxl
from tests.fakes.tiny_embedder import build_tiny_embedder
from tests.fakes.tiny_whisper import build_tiny_whisper


async def test_an_uploaded_folder_becomes_a_model_that_can_be_deployed(
    model_world: ModelWorld, tiny_model: Path, models_dir: Path, uploads_dir: Path
) -> None:
    created = await model_world.create()
    assert (created.state, created.created_by, created.name) == (
        ModelState.UPLOADING,
        "ada",
        "accounts/acme/models/poet",
    )
    files = read_files(tiny_model)
    await model_world.upload(files)
    assert read_files(models_dir / created.directory) == files
    assert await model_world.files.validate_upload(ADA, "acme", "poet") == []
    ready = await model_world.models.get(ADA, "acme", "poet")
    assert ready.state is ModelState.READY
    assert ready.info is not None
    assert ready.info.architecture == "LlamaForCausalLM"
    assert os.listdir(uploads_dir) == []


async def test_validation_can_be_asked_for_again(model_world: ModelWorld, tiny_model: Path, models_dir: Path) -> None:
    created = await model_world.create()
    await model_world.upload({**read_files(tiny_model), "custom_code.py": b"raise SystemExit"})
    first = await asyncio.gather(*(model_world.files.validate_upload(ADA, "acme", "poet") for _ in range(3)))
    (models_dir / created.directory / "config.json").write_text("no longer looked at")
    assert [await model_world.files.validate_upload(ADA, "acme", "poet")] * 3 == first


async def test_a_refused_folder_says_which_file_and_why_and_can_be_mended(
    model_world: ModelWorld, tiny_model: Path
) -> None:
    await model_world.create()
    files = read_files(tiny_model)
    await model_world.upload({**files, "model.safetensors": b"\xff" * 100})
    error = await refusal(model_world.files.validate_upload(ADA, "acme", "poet"))
    assert error.code is Code.INVALID
    assert error.reason == "corrupt_weights"
    assert "model.safetensors" in error.message
    refused = await model_world.models.get(ADA, "acme", "poet")
    assert (refused.state, refused.status_message) == (ModelState.UPLOADING, error.message)
    await model_world.upload({"model.safetensors": files["model.safetensors"]})
    await model_world.files.validate_upload(ADA, "acme", "poet")
    mended = await model_world.models.get(ADA, "acme", "poet")
    assert (mended.state, mended.status_message) == (ModelState.READY, "")


async def test_nothing_uploaded_is_refused(model_world: ModelWorld) -> None:
    await model_world.create()
    assert (await refusal(model_world.files.validate_upload(ADA, "acme", "poet"))).code is Code.INVALID


async def test_a_ready_model_takes_no_more_files(model_world: ModelWorld, tiny_model: Path) -> None:
    await model_world.create()
    urls = await model_world.urls({"late.json": 2})
    await model_world.upload(read_files(tiny_model))
    await model_world.files.validate_upload(ADA, "acme", "poet")
    for attempt in (
        model_world.urls({"late.json": 2}),
        model_world.put(urls["late.json"], b"{}"),
    ):
        assert (await refusal(attempt)).code is Code.FAILED_PRECONDITION


async def test_a_file_that_arrives_while_the_folder_is_inspected_comes_too_late(
    model_world: ModelWorld, tiny_model: Path, models_dir: Path
) -> None:
    created = await model_world.create()
    files = read_files(tiny_model)
    urls = await model_world.urls({"config.json": 2})
    await model_world.upload(files)
    validation = asyncio.create_task(model_world.files.validate_upload(ADA, "acme", "poet"))
    late = asyncio.create_task(model_world.put(urls["config.json"], b"{}"))
    await asyncio.gather(validation, late, return_exceptions=True)
    model = await model_world.models.get(ADA, "acme", "poet")
    # Whoever came first, what was inspected is what lies there.
    is_late = isinstance(late.exception(), HearthError)
    assert (model.state is ModelState.READY) is is_late
    assert ((models_dir / created.directory / "config.json").read_bytes() == files["config.json"]) is is_late


async def test_an_url_of_a_deleted_model_is_not_good_for_a_new_one_of_the_same_name(model_world: ModelWorld) -> None:
    await model_world.create()
    urls = await model_world.urls({"config.json": 2})
    await model_world.models.delete(ADA, "acme", "poet")
    assert (await refusal(model_world.put(urls["config.json"], b"{}"))).code is Code.NOT_FOUND
    await model_world.create()
    assert (await refusal(model_world.put(urls["config.json"], b"{}"))).code is Code.NOT_FOUND


async def test_an_url_ends_with_its_time(model_world: ModelWorld, clock: FakeClock) -> None:
    await model_world.create()
    urls = await model_world.urls({"config.json": 2})
    clock.advance(URL_LIFETIME_S)
    attempt = model_world.put(urls["config.json"], b"{}")
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
    model_world: ModelWorld, sizes: dict[str, int], code: Code
) -> None:
    await model_world.create()
    error = await refusal(model_world.urls(sizes))
    assert (error.code, error.param) == (code, "filenameToSize")


async def test_urls_lead_to_the_address_that_was_asked(model_world: ModelWorld) -> None:
    await model_world.create()
    urls = await model_world.files.upload_urls(ADA, "acme", "poet", {"config.json": 2}, "https://box.test")
    assert urls["config.json"].startswith("https://box.test/v1/uploads/")
    assert urls["config.json"].endswith("/config.json")


async def test_the_sweep_removes_what_nothing_refers_to(
    model_world: ModelWorld, database: Database, models_dir: Path, uploads_dir: Path
) -> None:
    created = await model_world.create()
    await model_world.upload({"config.json": b"{}"})
    (models_dir / "orphan").mkdir()
    (models_dir / "orphan" / "config.json").write_text("{}")
    (models_dir / "stray").write_text("x")
    await model_world.files.sweep()
    assert os.listdir(models_dir) == [created.directory]
    assert read_files(models_dir / created.directory) == {"config.json": b"{}"}
    async with database.reader() as db:
        assert await models.list_directories(db) == {created.directory}


async def test_an_uploaded_addon_is_checked_against_its_base_model(
    model_world: ModelWorld, tiny_model: Path, tmp_path: Path
) -> None:
    await model_world.create()
    created = await model_world.create_addon("poet")
    assert created.base_model == "accounts/acme/models/poet"
    folder = build_tiny_addon(tmp_path / "addon", tiny_model, target_modules=["q_proj"])
    await model_world.upload(read_files(folder), "rhymes")
    not_ready = await refusal(model_world.files.validate_upload(ADA, "acme", "rhymes"))
    assert (not_ready.code, not_ready.param) == (Code.FAILED_PRECONDITION, "peftDetails.baseModel")
    await model_world.upload(read_files(tiny_model))
    await model_world.files.validate_upload(ADA, "acme", "poet")
    for _ in range(2):
        await model_world.files.validate_upload(ADA, "acme", "rhymes")
    ready = await model_world.models.get(ADA, "acme", "rhymes")
    assert (ready.state, ready.info) == (ModelState.READY, None)
    assert ready.addon_info is not None
    assert ready.addon_info.target_modules == ["q_proj"]


async def test_what_is_no_addon_of_that_base_is_refused_and_said(model_world: ModelWorld, tiny_model: Path) -> None:
    await model_world.create()
    files = read_files(tiny_model)
    await model_world.upload(files)
    await model_world.files.validate_upload(ADA, "acme", "poet")
    await model_world.create_addon("acme/poet")
    await model_world.upload(files, "rhymes")
    refused = await refusal(model_world.files.validate_upload(ADA, "acme", "rhymes"))
    assert refused.code is Code.INVALID
    assert (await model_world.models.get(ADA, "acme", "rhymes")).status_message == refused.message


async def test_a_ready_model_is_downloaded_as_it_was_uploaded(model_world: ModelWorld, tiny_model: Path) -> None:
    await model_world.make_ready(tiny_model)
    urls = await model_world.files.download_urls(ADA, "acme", "poet", BASE)
    found = {}
    for name, url in urls.items():
        path = await model_world.transfers.find_download(*token_and_filename(url))
        found[name] = path.read_bytes()
    assert found == read_files(tiny_model)


async def test_nobody_of_another_account_downloads_a_model_and_nobody_an_unfinished_one(
    model_world: ModelWorld, database: Database
) -> None:
    await put(database, model("globex", "song", is_public=True), model("globex", "diary"))
    await model_world.create()
    for account_id, model_id, code in (
        ("globex", "song", Code.FORBIDDEN),
        ("globex", "diary", Code.NOT_FOUND),
        ("library", "nothing", Code.NOT_FOUND),
        ("acme", "poet", Code.FAILED_PRECONDITION),
    ):
        attempt = model_world.files.download_urls(ADA, account_id, model_id, BASE)
        assert (await refusal(attempt)).code is code


async def test_announced_sizes_count_until_the_real_ones_are_known(model_world: ModelWorld, tiny_model: Path) -> None:
    await model_world.create()
    files = read_files(tiny_model)
    await model_world.urls({"a.json": 1000, "b.json": 500})
    await model_world.urls({"a.json": 10})
    assert (await model_world.models.get(ADA, "acme", "poet")).size_bytes == 510
    await model_world.upload(files)
    await model_world.files.validate_upload(ADA, "acme", "poet")
    ready = await model_world.models.get(ADA, "acme", "poet")
    assert (ready.size_bytes, ready.announced_files) == (sum(map(len, files.values())), {})


async def test_a_config_can_be_checked_before_the_weights_are_sent(model_world: ModelWorld, tiny_model: Path) -> None:
    created = await model_world.create()
    files = read_files(tiny_model)
    await model_world.upload({"config.json": b'{"architectures": ["Unheard"]}'})
    assert (await refusal(model_world.files.check_config(ADA, "acme", "poet"))).code is Code.INVALID
    await model_world.upload({"config.json": files["config.json"]})
    assert await model_world.files.check_config(ADA, "acme", "poet") == []
    assert await model_world.models.get(ADA, "acme", "poet") != created
    assert (await model_world.models.get(ADA, "acme", "poet")).state is ModelState.UPLOADING


async def test_a_model_that_reaches_less_than_was_asked_for_does_not_become_ready(
    model_world: ModelWorld, tiny_model: Path
) -> None:
    await model_world.models.create(ADA, "acme", "poet", ModelAsk(context_length=10**6))
    await model_world.upload(read_files(tiny_model))
    assert (await refusal(model_world.files.validate_upload(ADA, "acme", "poet"))).param == "contextLength"
    await model_world.models.update(ADA, "acme", "poet", ModelAsk(context_length=0))
    await model_world.files.validate_upload(ADA, "acme", "poet")


async def test_what_is_announced_counts_against_the_accounts_disk_quota(
    model_world: ModelWorld, database: Database
) -> None:
    async with database.transaction() as tx:
        await quotas.put(tx, Quota(account_id="acme", metric=QuotaMetric.DISK_BYTES, value=1000, updated_at=tx.now))
    await model_world.create()
    await model_world.urls({"a.json": 900})
    await model_world.urls({"a.json": 800, "b.json": 200})
    refused = await refusal(model_world.urls({"c.json": 1}))
    assert (refused.code, refused.reason) == (Code.RATE_LIMITED, "QUOTA_EXCEEDED")
    await model_world.models.delete(ADA, "acme", "poet")
    await model_world.create()
    await model_world.urls({"c.json": 1000})


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (ModelKind.HF_BASE_MODEL, ModelKind.EMBEDDING_MODEL),
        (ModelKind.EMBEDDING_MODEL, ModelKind.EMBEDDING_MODEL),
        (ModelKind.FLUMINA_BASE_MODEL, None),
    ],
)
async def test_inspection_says_which_kind_a_model_is(
    model_world: ModelWorld, tmp_path: Path, said: ModelKind, found: ModelKind | None
) -> None:
    folder = build_tiny_embedder(tmp_path / "bert", "bert")
    if found is None:
        refused = await refusal(model_world.make_ready(folder, kind=said))
        assert (refused.code, refused.param) == (Code.INVALID, "kind")
        return
    ready = await model_world.make_ready(folder, kind=said)
    assert (ready.kind, ready.state) == (found, ModelState.READY)
    assert isinstance(ready.info, EmbeddingInfo)
    assert ready.info.file_sha256.keys() <= read_files(folder).keys()


async def test_a_decoder_becomes_an_embedding_model_when_it_is_said_to_be_one(
    model_world: ModelWorld, tmp_path: Path
) -> None:
    folder = build_tiny_embedder(tmp_path / "reranker", "qwen3_reranker")
    assert isinstance((await model_world.make_ready(folder, "llm")).info, ModelInfo)
    ready = await model_world.make_ready(folder, "reranker", kind=ModelKind.EMBEDDING_MODEL)
    assert isinstance(ready.info, EmbeddingInfo)


async def test_an_image_model_and_its_addon_are_taken_in_with_their_folders(
    model_world: ModelWorld, models_dir: Path, tmp_path: Path
) -> None:
    folder = build_tiny_sdxl(tmp_path / "sdxl", control_nets=["canny"])
    painter = await model_world.make_ready(folder, "painter")
    assert painter.kind is ModelKind.FLUMINA_BASE_MODEL
    assert painter.size_bytes == sum(map(len, read_files(folder).values()))
    assert read_files(models_dir / painter.directory) == read_files(folder)
    urls = await model_world.files.download_urls(ADA, "acme", "painter", BASE)
    assert urls["controlnet/canny/config.json"].endswith("/controlnet/canny/config.json")
    await model_world.create_addon("painter", "style")
    await model_world.upload(read_files(build_tiny_lora(tmp_path / "lora", folder)), "style")
    await model_world.files.validate_upload(ADA, "acme", "style")
    style = await model_world.models.get(ADA, "acme", "style")
    assert (style.kind, style.addon_info is None) == (ModelKind.FLUMINA_ADDON, False)
    await model_world.models.delete(ADA, "acme", "style")
    await model_world.models.delete(ADA, "acme", "painter")
    assert os.listdir(models_dir) == []


async def test_a_whisper_model_is_taken_in_and_has_no_addons(model_world: ModelWorld, tmp_path: Path) -> None:
    ready = await model_world.make_ready(build_tiny_whisper(tmp_path / "whisper"), "ear")
    assert ready.kind is ModelKind.CUSTOM_MODEL
    await model_world.create_addon("ear", "accent")
    refused = await refusal(model_world.files.validate_upload(ADA, "acme", "accent"))
    assert (refused.code, refused.param) == (Code.INVALID, "peftDetails.baseModel")


async def test_a_folder_does_not_take_the_place_of_a_file(model_world: ModelWorld) -> None:
    await model_world.create()
    await model_world.upload({"unet": b"x"})
    refused = await refusal(model_world.urls({"unet/config.json": 2}))
    assert (refused.code, refused.param) == (Code.INVALID, "filenameToSize")
