import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.config import IdentitySettings, ImportSettings
from appliance.domain import ModelState, Operation, OperationState
from appliance.errors import Code
from appliance.services.import_folder import LocalFolder
from appliance.services.import_sources import Tell
from appliance.services.imports import STOPPED, Imports
from appliance.services.model_spec import ModelAsk
from appliance.store.database import Database
from tests.appliance.services.model_world import ModelWorld, read_files, refusal
from tests.appliance.services.samples import ADA, GUS, model, put


class Held(LocalFolder):
    """A folder that brings its first file and then waits."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), [str(path.parent)])
        self.has_begun, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def fetch(self, filename: str, size_bytes: int, part: Path, tell: Tell) -> None:
        await super().fetch(filename, size_bytes, part, tell)
        self.has_begun.set()
        await self.may_go_on.wait()


def folder(path: Path) -> LocalFolder:
    return LocalFolder(str(path), [str(path.parent)])


def build(world: ModelWorld, database: Database, settings: IdentitySettings) -> Imports:
    return Imports(database, ImportSettings(), settings, world.transfers, world.files, world.models)


@pytest.fixture
async def imports(model_world: ModelWorld, database: Database, settings: IdentitySettings) -> AsyncIterator[Imports]:
    built = build(model_world, database, settings)
    yield built
    await built.close()


async def ended(imports: Imports, operation: Operation) -> Operation:
    found = operation
    while found.state is OperationState.RUNNING:
        await asyncio.sleep(0.01)
        found = await imports.get(ADA, "acme", operation.id)
    return found


async def test_a_folder_becomes_a_model_that_can_be_deployed(
    imports: Imports, model_world: ModelWorld, tiny_model: Path
) -> None:
    ask = ModelAsk(display_name="Poet", description="from disk")
    started = await imports.start(ADA, "acme", "poet", folder(tiny_model), ask)
    assert started.state is OperationState.RUNNING
    done = await ended(imports, started)
    size = sum(map(len, read_files(tiny_model).values()))
    assert (done.state, done.num_bytes, done.total_bytes) == (OperationState.DONE, size, size)
    poet = await model_world.models.get(ADA, "acme", "poet")
    assert (poet.state, poet.display_name, poet.imported_from) == (
        ModelState.READY,
        "Poet",
        f"file:{tiny_model.name}",
    )
    assert read_files(model_world.models_dir / poet.directory) == read_files(tiny_model)
    assert os.listdir(model_world.uploads_dir) == []


async def test_what_is_no_model_fails_with_the_reason_and_is_imported_again_when_mended(
    imports: Imports, model_world: ModelWorld, tiny_model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "root" / "model"
    source.mkdir(parents=True)
    for name, content in read_files(tiny_model).items():
        (source / name).write_bytes(content if name != "config.json" else b"{}")
    failed = await ended(imports, await imports.start(ADA, "acme", "poet", folder(source), ModelAsk()))
    assert (failed.state, failed.error_code) == (OperationState.FAILED, Code.INVALID)
    assert "config.json" in failed.error_message
    poet = await model_world.models.get(ADA, "acme", "poet")
    assert (poet.state, poet.status_message) == (ModelState.UPLOADING, failed.error_message)
    (source / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    mended = await ended(imports, await imports.start(ADA, "acme", "poet", folder(source), ModelAsk()))
    assert mended.state is OperationState.DONE
    again = imports.start(ADA, "acme", "poet", folder(source), ModelAsk())
    assert (await refusal(again)).code is Code.FAILED_PRECONDITION


async def test_a_cancelled_import_keeps_what_came_and_the_next_goes_on(
    imports: Imports, model_world: ModelWorld, tiny_model: Path
) -> None:
    source = Held(tiny_model)
    started = await imports.start(ADA, "acme", "poet", source, ModelAsk())
    await source.has_begun.wait()
    under_way = await imports.get(ADA, "acme", started.id)
    assert 0 < under_way.num_bytes < under_way.total_bytes
    second = imports.start(ADA, "acme", "poet", folder(tiny_model), ModelAsk())
    assert (await refusal(second)).code is Code.CONFLICT
    await imports.cancel(ADA, "acme", started.id)
    cancelled = await imports.get(ADA, "acme", started.id)
    assert (cancelled.state, cancelled.error_message) == (OperationState.CANCELLED, "cancelled by ada")
    assert len(os.listdir(model_world.uploads_dir)) == 1
    done = await ended(imports, await imports.start(ADA, "acme", "poet", folder(tiny_model), ModelAsk()))
    assert done.state is OperationState.DONE
    await imports.cancel(ADA, "acme", done.id)
    assert (await imports.get(ADA, "acme", done.id)).state is OperationState.DONE


async def test_a_daemon_that_stops_or_dies_leaves_no_import_running(
    imports: Imports, model_world: ModelWorld, database: Database, settings: IdentitySettings, tiny_model: Path
) -> None:
    source = Held(tiny_model)
    started = await imports.start(ADA, "acme", "poet", source, ModelAsk())
    await source.has_begun.wait()
    later = build(model_world, database, settings)
    await later.restore()
    found = await later.get(ADA, "acme", started.id)
    assert (found.state, found.error_message) == (OperationState.FAILED, STOPPED)
    await imports.close()
    assert (await imports.get(ADA, "acme", started.id)).error_message == STOPPED


async def test_a_model_that_is_deleted_meanwhile_stays_deleted(
    imports: Imports, model_world: ModelWorld, tiny_model: Path
) -> None:
    source = Held(tiny_model)
    started = await imports.start(ADA, "acme", "poet", source, ModelAsk())
    await source.has_begun.wait()
    await model_world.models.delete(ADA, "acme", "poet")
    source.may_go_on.set()
    failed = await ended(imports, started)
    assert (failed.state, failed.error_code) == (OperationState.FAILED, Code.NOT_FOUND)
    assert os.listdir(model_world.models_dir) == []


async def test_others_neither_see_nor_stop_an_import(imports: Imports, database: Database, tiny_model: Path) -> None:
    await put(database, model("globex", "song", is_public=True))
    started = await imports.start(ADA, "acme", "poet", folder(tiny_model), ModelAsk())
    assert (await refusal(imports.get(GUS, "acme", started.id))).code is Code.NOT_FOUND
    assert (await refusal(imports.cancel(GUS, "acme", started.id))).code is Code.NOT_FOUND
    assert (await refusal(imports.list(GUS, "acme"))).code is Code.NOT_FOUND
    into_theirs = imports.start(ADA, "globex", "song", folder(tiny_model), ModelAsk())
    assert (await refusal(into_theirs)).code in (Code.FORBIDDEN, Code.FAILED_PRECONDITION)
    assert [operation.id for operation in await imports.list(ADA, "acme")] == [started.id]
    await ended(imports, started)
