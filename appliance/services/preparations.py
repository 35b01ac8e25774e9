"""Preparing models: the appliance makes a second checkpoint of a model, in another precision, beside the one it has.

The row says that it is wanted until it is there or cannot be; a daemon that finds one unfinished at its start goes on
with it. The checkpoint moves into the model's folder whole, before the row says READY. Only FP8 needs any preparation.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from appliance.domain import Model, ModelState, Precision, Preparation, PreparationState, Principal, prepared_folder
from appliance.errors import Code, HearthError
from appliance.services import audit
from appliance.services.model_files import ModelFiles, refusal, require_ready
from appliance.services.model_folders import link_files, list_sizes, make_folder
from appliance.services.quantising import quantise
from appliance.services.quotas import QuotaMetric, require_room
from appliance.services.transfers import Transfers
from appliance.store import models
from appliance.store.database import Database, Transaction
from appliance.store.durable_files import move_into_place, remove_tree
from models.checkpoint import WEIGHTS_INDEX
from models.info import ModelInfo
from models.llm_folder import inspect_llm
from models.refusal import CONFIG, ModelRefused
from runtime.quantiser.messages import Progress, Quantise

logger = logging.getLogger(__name__)

AT_ONCE_MAX = 1
"""Others wait: each takes a processor and reads all weights."""
Key = tuple[str, Precision]
"""A model's full name, and what it is prepared for."""


class Preparations:
    def __init__(self, database: Database, transfers: Transfers, files: ModelFiles) -> None:
        self._database = database
        self._transfers = transfers
        self._files = files
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._percent: dict[Key, int] = {}

    async def restore(self) -> None:
        """Go on with what an earlier daemon has begun. Before anything is served."""
        async with self._database.reader() as db:
            begun = await models.list_with_preparations(db)
        for model in begun:
            for precision, preparation in model.preparations.items():
                if preparation.state is PreparationState.PREPARING:
                    self._start(model, precision)

    async def close(self) -> None:
        """What is under way stays wanted."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def progress(self, model: Model) -> Mapping[Precision, int]:
        """Of what is under way, in percent."""
        return {
            precision: self._percent[model.name, precision]
            for precision in model.preparations
            if (model.name, precision) in self._percent
        }

    async def prepare(self, principal: Principal, account_id: str, model_id: str, precision: Precision) -> None:
        """Returns at once. Nothing happens where the model is prepared, or is being prepared."""
        name = (await self._files.get_to_change(principal, account_id, model_id)).name
        async with self._files.lock(name):
            model = await self._files.get_to_change(principal, account_id, model_id)
            require_ready(model)
            present = model.preparations.get(precision)
            is_under_way = present is not None and present.state is PreparationState.PREPARING
            if is_under_way or model.checkpoint(precision) is not None:
                return
            size_bytes = _require_suitable(model, precision).weight_bytes
            if present is None:
                await asyncio.to_thread(_require_no_folder, self._files.directory / model.directory, precision)
            await asyncio.to_thread(self._transfers.require_space, size_bytes)
            wanted = Preparation(state=PreparationState.PREPARING, size_bytes=size_bytes)
            async with self._database.transaction() as tx:
                await require_room(tx, account_id, QuotaMetric.DISK_BYTES, size_bytes)
                model = await _note(tx, model, precision, wanted)
                await audit.record(tx, principal, model.name, ["precision"])
            self._start(model, precision)

    def _start(self, model: Model, precision: Precision) -> None:
        key = model.name, precision
        self._tasks[key] = task = asyncio.create_task(self._run(model, precision))
        task.add_done_callback(lambda ended: self._forget(key, ended))

    def _forget(self, key: Key, ended: "asyncio.Task[None]") -> None:
        if self._tasks.get(key) is ended:
            del self._tasks[key]
            self._percent.pop(key, None)

    async def _run(self, model: Model, precision: Precision) -> None:
        """To the end, whatever it is: the row says it."""
        try:
            async with self._slots:
                await self._make(model, precision)
        except HearthError as error:
            await self._fail(model, precision, error.message)
        except Exception:
            logger.exception("preparing %s for %s failed", model.name, precision)
            await self._fail(model, precision, "internal error; the log tells more")

    async def _make(self, model: Model, precision: Precision) -> None:
        """From the folder that the model had when this began; a later one has the same weights."""
        work = self._files.work_folder(model)
        assert model.info is not None, "only READY models are prepared"
        asked = Quantise(
            source_dir=str(self._files.directory / model.directory),
            file_sha256=model.info.file_sha256,
            target_dir=str(work),
        )
        await asyncio.to_thread(make_folder, work)
        key = model.name, precision

        def tell(progress: Progress) -> None:
            self._percent[key] = progress.num_bytes * 100 // max(1, progress.total_bytes)

        await quantise(asked, tell)
        async with self._files.lock(model.name):
            present = await self._find(model)
            if present is None:
                await asyncio.to_thread(remove_tree, work)
                return
            try:
                made = await asyncio.to_thread(self._place, present, work, precision)
            except ModelRefused as refused:
                raise refusal(refused) from refused
            async with self._database.transaction() as tx:
                await _note(tx, present, precision, made)
                await audit.record_own_act(tx, "PrepareModel", model.name, f"prepared for {precision}")

    def _place(self, model: Model, work: Path, precision: Precision) -> Preparation:
        """Complete the folder with what the model's own has besides weights, check it and move it there."""
        assert model.info is not None
        source = self._files.directory / model.directory
        size_bytes = sum(list_sizes(work).values())
        beside = [name for name in model.info.file_sha256 if not name.endswith(".safetensors")]
        link_files(source, work, [name for name in beside if name not in (CONFIG, WEIGHTS_INDEX)])
        info = inspect_llm(work)
        target = source / prepared_folder(precision)
        remove_tree(target)  # what a crash left between this move and the row
        move_into_place(work, target)
        return Preparation(state=PreparationState.READY, info=info, size_bytes=size_bytes)

    async def _fail(self, model: Model, precision: Precision, message: str) -> None:
        async with self._files.lock(model.name):
            await asyncio.to_thread(remove_tree, self._files.work_folder(model))
            present = await self._find(model)
            if present is None:
                return
            async with self._database.transaction() as tx:
                failed = Preparation(state=PreparationState.FAILED, message=message)
                await _note(tx, present, precision, failed)
                await audit.record_own_act(tx, "PrepareModel", model.name, message)

    async def _find(self, model: Model) -> Model | None:
        """The row as it is now; None: it is gone, or another of the same name, or no longer wanted."""
        async with self._database.reader() as db:
            found = await models.get(db, model.account_id, model.id)
        is_same = found is not None and found.created_at == model.created_at and found.state is ModelState.READY
        return found if is_same and found is not None and found.preparations else None


def _require_suitable(model: Model, precision: Precision) -> ModelInfo:
    info = model.llm_info
    if precision is not Precision.FP8 or info is None or info.vision is not None:
        message = f"precision: only language models that read text alone are prepared for {precision}"
        raise HearthError(Code.INVALID, message, "precision")
    return info


def _require_no_folder(folder: Path, precision: Precision) -> None:
    """Of the name that the checkpoint will have."""
    name = prepared_folder(precision)
    if (folder / name).exists():
        message = f"precision: the model was uploaded with a folder {name!r}, in whose place this would be"
        raise HearthError(Code.FAILED_PRECONDITION, message, "precision")


async def _note(tx: Transaction, model: Model, precision: Precision, preparation: Preparation) -> Model:
    """Into the row, and its bytes among the model's."""
    before = model.preparations.get(precision)
    noted = replace(
        model,
        preparations=model.preparations | {precision: preparation},
        size_bytes=model.size_bytes + preparation.size_bytes - (0 if before is None else before.size_bytes),
        updated_at=tx.now,
    )
    await models.update(tx, noted)
    return noted
