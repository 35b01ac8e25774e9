"""Models that come with the daemon: into the library at start, serverless, so that the first request deploys each."""

import asyncio
import shutil
from pathlib import Path

import msgspec

from appliance.domain import Model, ModelState
from appliance.names import generate_id
from appliance.services.model_spec import KIND_OF
from appliance.store import models
from appliance.store.database import Database, Transaction
from appliance.store.durable_files import copy_synced, move_into_place, sync_directory
from models.builtin import BuiltinModel
from models.info import AnyServedInfo
from models.inspection import inspect_model


async def install_builtin_model(
    database: Database, account_id: str, builtin: BuiltinModel, models_dir: Path, uploads_dir: Path
) -> None:
    info = await asyncio.to_thread(inspect_model, builtin.directory)
    async with database.reader() as db:
        present = await models.get(db, account_id, builtin.id)
    if present is not None and await asyncio.to_thread(_is_whole, present, info, models_dir):
        return
    directory = generate_id(16)
    await asyncio.to_thread(_copy, builtin.directory, info, uploads_dir / directory, models_dir / directory)
    async with database.transaction() as tx:
        if present is None:
            await _insert(tx, account_id, builtin, directory, info)
        else:
            changes = {"directory": directory, "info": info, "is_serverless": True, "kind": KIND_OF[type(info)]}
            # What was prepared is of weights that are no longer its own.
            await models.update(tx, msgspec.structs.replace(present, updated_at=tx.now, preparations={}, **changes))
    if present is not None:
        await asyncio.to_thread(shutil.rmtree, models_dir / present.directory, ignore_errors=True)


def _is_whole(present: Model, info: AnyServedInfo, models_dir: Path) -> bool:
    return present.info == info and present.is_serverless and (models_dir / present.directory).exists()


def _copy(source: Path, info: AnyServedInfo, part: Path, target: Path) -> None:
    part.mkdir(mode=0o700)
    folders = {(part / filename).parent for filename in info.file_sha256}
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for filename in info.file_sha256:
        copy_synced(source / filename, part / filename)
    for folder in folders | {part}:
        sync_directory(folder)
    move_into_place(part, target)


async def _insert(tx: Transaction, account_id: str, builtin: BuiltinModel, directory: str, info: AnyServedInfo) -> None:
    model = Model(
        account_id=account_id,
        id=builtin.id,
        display_name=builtin.display_name,
        description="Comes with hearth",
        kind=KIND_OF[type(info)],
        state=ModelState.READY,
        is_public=True,
        is_serverless=True,
        directory=directory,
        info=info,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await models.insert(tx, model)
