import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.domain import Model, ModelState, Precision, Preparation, PreparationState
from appliance.errors import Code
from appliance.services.model_spec import ModelAsk
from appliance.services.preparations import Preparations
from appliance.store import models
from appliance.store.database import Database
from models.fireworks_json import ConversationConfig
from models.llm_folder import inspect_llm
from tests.appliance.services.model_world import ModelWorld, read_files, refusal
from tests.appliance.services.samples import ADA, GUS, model, put
from tests.waiting import until


def build(world: ModelWorld) -> Preparations:
    return Preparations(world.database, world.transfers, world.files)


@pytest.fixture
async def preparations(model_world: ModelWorld) -> AsyncIterator[Preparations]:
    built = build(model_world)
    yield built
    await built.close()


async def get(world: ModelWorld) -> Model:
    return await world.models.get(ADA, "acme", "poet")


async def ended(world: ModelWorld) -> Preparation:
    found = (await get(world)).preparations[Precision.FP8]
    while found.state is PreparationState.PREPARING:
        await asyncio.sleep(0.02)
        found = (await get(world)).preparations[Precision.FP8]
    return found


async def test_a_model_gets_a_second_checkpoint_beside_its_own(
    preparations: Preparations, model_world: ModelWorld, tiny_model: Path
) -> None:
    before = await model_world.make_ready(tiny_model)
    assert Precision.FP8 not in before.precisions
    await preparations.prepare(ADA, "acme", "poet", Precision.FP8)
    wanted = await get(model_world)
    assert wanted.state is ModelState.READY, "it is served meanwhile"
    assert wanted.size_bytes > before.size_bytes, "room is kept for it"
    await preparations.prepare(ADA, "acme", "poet", Precision.FP8)
    assert await get(model_world) == wanted, "asked again, it is under way already"

    seen: set[int] = set()
    while (await get(model_world)).preparations[Precision.FP8].state is PreparationState.PREPARING:
        seen.update(preparations.progress(wanted).values())
        await asyncio.sleep(0)
    assert seen, "how far it is can be asked for"
    made = await ended(model_world)
    assert (made.state, made.message) == (PreparationState.READY, "")
    poet = await get(model_world)
    assert set(poet.precisions) == set(Precision)
    folder = model_world.models_dir / poet.directory
    checkpoint = poet.checkpoint(Precision.FP8)
    assert checkpoint is not None
    assert model_world.models_dir / checkpoint.directory == folder / "fp8"
    assert inspect_llm(folder / "fp8") == checkpoint.info == made.info
    assert made.info is not None
    assert made.info.fp8 is not None
    assert inspect_llm(folder).file_sha256 == inspect_llm(tiny_model).file_sha256, "its own is what it was"
    own = poet.checkpoint(Precision.BF16)
    assert own is not None
    assert (own.directory, own.info) == (poet.directory, before.info)
    new_files = sum(path.stat().st_size for path in (folder / "fp8").iterdir() if path.stat().st_nlink == 1)
    assert poet.size_bytes == before.size_bytes + made.size_bytes == before.size_bytes + new_files
    assert [path.name for path in model_world.models_dir.iterdir()] == [poet.directory]
    urls = await model_world.files.download_urls(ADA, "acme", "poet", "http://box")
    assert urls.keys() == read_files(tiny_model).keys()


async def test_what_is_there_needs_no_preparation_and_what_cannot_be_is_refused(
    preparations: Preparations, model_world: ModelWorld, database: Database, tiny_model: Path
) -> None:
    poet = await model_world.make_ready(tiny_model)
    await preparations.prepare(ADA, "acme", "poet", Precision.FP16)
    assert (await get(model_world)) == poet
    await put(database, model("acme", "half", state=ModelState.UPLOADING))
    attempt = preparations.prepare(ADA, "acme", "half", Precision.FP16)
    assert (await refusal(attempt)).code is Code.FAILED_PRECONDITION
    assert (await refusal(preparations.prepare(GUS, "acme", "poet", Precision.FP8))).code is Code.NOT_FOUND
    (model_world.models_dir / poet.directory / "fp8").mkdir()
    assert "folder 'fp8'" in (await refusal(preparations.prepare(ADA, "acme", "poet", Precision.FP8))).message
    assert (await get(model_world)).preparations == {}


async def test_a_failure_is_told_and_leaves_nothing(
    preparations: Preparations, model_world: ModelWorld, tiny_model: Path
) -> None:
    before = await model_world.make_ready(tiny_model)
    weights = model_world.models_dir / before.directory / "model.safetensors"
    weights.rename(weights.with_suffix(".away"))
    await preparations.prepare(ADA, "acme", "poet", Precision.FP8)
    failed = await ended(model_world)
    assert failed.state is PreparationState.FAILED
    assert "model.safetensors" in failed.message
    poet = await get(model_world)
    assert (poet.size_bytes, poet.checkpoint(Precision.FP8)) == (before.size_bytes, None)
    assert [path.name for path in model_world.models_dir.iterdir()] == [poet.directory]
    weights.with_suffix(".away").rename(weights)
    await preparations.prepare(ADA, "acme", "poet", Precision.FP8)
    assert (await ended(model_world)).state is PreparationState.READY


async def test_the_next_daemon_goes_on_with_what_one_has_begun(
    preparations: Preparations, model_world: ModelWorld, tiny_model: Path
) -> None:
    before = await model_world.make_ready(tiny_model)
    await preparations.prepare(ADA, "acme", "poet", Precision.FP8)
    work = model_world.files.work_folder(before)
    await until(work.exists)
    await preparations.close()
    left = await get(model_world)
    assert left.preparations[Precision.FP8].state is PreparationState.PREPARING
    await model_world.files.sweep()
    assert work.exists(), "what was finished is not made again"

    later = build(model_world)
    await later.restore()
    assert (await ended(model_world)).state is PreparationState.READY
    assert not work.exists()
    await later.close()


async def test_a_crash_before_the_row_was_written_leaves_no_half(
    preparations: Preparations, model_world: ModelWorld, tiny_model: Path
) -> None:
    poet = await model_world.make_ready(tiny_model)
    preparation = Preparation(state=PreparationState.PREPARING, size_bytes=1)
    async with model_world.database.transaction() as tx:
        await models.update(tx, replace(poet, preparations={Precision.FP8: preparation}))
    half = model_world.models_dir / poet.directory / "fp8"
    half.mkdir()
    (half / "model-00001-of-00002.safetensors").write_bytes(b"half")
    await preparations.restore()
    made = await ended(model_world)
    assert made.state is PreparationState.READY
    assert inspect_llm(half) == made.info


async def test_a_model_that_is_deleted_meanwhile_is_gone(
    preparations: Preparations, model_world: ModelWorld, tiny_model: Path
) -> None:
    poet = await model_world.make_ready(tiny_model)
    await preparations.prepare(ADA, "acme", "poet", Precision.FP8)
    await until(model_world.files.work_folder(poet).exists)
    await model_world.models.delete(ADA, "acme", "poet")
    await until(lambda: not preparations._tasks)
    assert list(model_world.models_dir.iterdir()) == []


async def test_another_chat_template_is_every_checkpoints(
    preparations: Preparations, model_world: ModelWorld, tiny_model: Path
) -> None:
    await model_world.make_ready(tiny_model)
    await preparations.prepare(ADA, "acme", "poet", Precision.FP8)
    await ended(model_world)
    config = ConversationConfig(style="jinja", template="{% for m in messages %}{{ m.content }}{% endfor %}")
    changed = await model_world.models.update(ADA, "acme", "poet", ModelAsk(conversation_config=config))
    found = changed.checkpoint(Precision.FP8)
    assert found is not None
    folder = model_world.models_dir / changed.directory
    assert (folder / "fp8/fireworks.json").read_bytes() == (folder / "fireworks.json").read_bytes()
    assert inspect_llm(folder / "fp8") == found.info
    assert not any("fp8" in warning for warning in inspect_llm(tiny_model).warnings)
    shutil.rmtree(folder / "fp8")
    assert changed.info is not None
    assert inspect_llm(folder) == changed.info, "and its own knows nothing of it"
