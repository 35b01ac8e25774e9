"""Imports of models: long-running operations that bring a model's files from elsewhere and have them inspected.

Each is a row from its beginning to its end, so that nobody waits for one that is over: a daemon that finds a running
one at its start says that it failed, and asking again goes on with what had arrived.
"""

import asyncio
import logging
from pathlib import Path

from msgspec.structs import replace

from appliance.config import IdentitySettings, ImportSettings
from appliance.domain import Model, Operation, OperationState, Principal
from appliance.errors import Code, HearthError
from appliance.names import ResourceName, generate_id
from appliance.services import audit
from appliance.services.access import can_look_inside, not_found, require_account, require_change
from appliance.services.import_sources import ImportSource
from appliance.services.model_files import COLLECTION, ModelFiles, require_uploading
from appliance.services.model_spec import ModelAsk
from appliance.services.models import Models
from appliance.services.transfers import Transfers
from appliance.store import models, operations
from appliance.store.database import Database

logger = logging.getLogger(__name__)

STOPPED = "the daemon stopped; import the model again to go on with what has arrived"


class Imports:
    def __init__(
        self,
        database: Database,
        settings: ImportSettings,
        identity: IdentitySettings,
        transfers: Transfers,
        files: ModelFiles,
        models: Models,
    ) -> None:
        self._database = database
        self._settings = settings
        self._identity = identity
        self._transfers = transfers
        self._files = files
        self._models = models
        self._slots = asyncio.Semaphore(settings.imports_max)
        self._running: dict[str, _Running] = {}
        """By the operation's name."""

    async def restore(self) -> None:
        """What an earlier daemon left running has failed. Before anything is served."""
        async with self._database.transaction() as tx:
            for operation in await operations.list_in_state(tx.connection, OperationState.RUNNING):
                await operations.update(tx, _failed(operation, Code.UNAVAILABLE, STOPPED, tx.now))
                await audit.record_own_act(tx, "FinishOperation", operation.name, STOPPED)

    async def close(self) -> None:
        for running in self._running.values():
            running.reason = STOPPED
            running.task.cancel()
        await asyncio.gather(*(running.task for running in self._running.values()), return_exceptions=True)

    async def start(
        self, principal: Principal, account_id: str, model_id: str, source: ImportSource, ask: ModelAsk
    ) -> Operation:
        """Make the model, unless it is there and waits for its files; return at once."""
        name = ResourceName(account_id, COLLECTION, model_id)
        await self._require_model(principal, name, ask)
        async with self._database.transaction() as tx:
            if any(running.operation.model == str(name) for running in self._running.values()):
                raise HearthError(Code.CONFLICT, f"{name} is being imported already")
            operation = Operation(
                account_id=account_id,
                id=generate_id(16),
                model=str(name),
                source=source.described,
                created_by=principal.user_id,
                created_at=tx.now,
                updated_at=tx.now,
            )
            await operations.insert(tx, operation)
            await operations.forget_old(tx, account_id, self._settings.operations_kept)
            await audit.record(tx, principal, operation.name, ["source"])
            self._running[operation.name] = _Running(operation)
        running = self._running[operation.name]
        running.task = asyncio.create_task(self._run(running, principal, name, source))
        return operation

    async def get(self, principal: Principal, account_id: str, operation_id: str) -> Operation:
        name = ResourceName(account_id, "operations", operation_id)
        async with self._database.reader() as db:
            operation = await operations.get(db, account_id, operation_id)
        if operation is None or not can_look_inside(principal, account_id, self._identity):
            raise not_found(str(name))
        return self._as_it_is(operation)

    async def list(self, principal: Principal, account_id: str) -> list[Operation]:
        """The newest first."""
        require_account(principal, account_id, self._identity)
        if not can_look_inside(principal, account_id, self._identity):
            return []
        async with self._database.reader() as db:
            return [self._as_it_is(operation) for operation in await operations.list_in_account(db, account_id)]

    async def cancel(self, principal: Principal, account_id: str, operation_id: str) -> None:
        """What has arrived stays for another attempt. Nothing happens to one that has ended."""
        operation = await self.get(principal, account_id, operation_id)
        require_change(principal, account_id, operation.name, self._identity, operation.created_by)
        async with self._database.transaction() as tx:
            await audit.record(tx, principal, operation.name)
        running = self._running.get(operation.name)
        if running is not None:
            running.reason = f"cancelled by {principal.user_id}"
            running.is_cancelled = True
            running.task.cancel()
            await asyncio.wait({running.task})

    async def _require_model(self, principal: Principal, name: ResourceName, ask: ModelAsk) -> None:
        async with self._database.reader() as db:
            present = await models.get(db, name.account_id, name.resource_id)
        if present is None:
            await self._models.create(principal, name.account_id, name.resource_id, ask)
        else:
            require_uploading(await self._files.get_to_change(principal, name.account_id, name.resource_id))

    async def _run(self, running: "_Running", principal: Principal, name: ResourceName, source: ImportSource) -> None:
        """To the end, whatever it is: the row says it."""
        try:
            async with self._slots:
                await self._bring(running, principal, name, source)
            ended = replace(running.operation, state=OperationState.DONE)
        except HearthError as error:
            ended = _failed(running.operation, error.code, error.message)
        except asyncio.CancelledError:
            ended = _failed(running.operation, Code.UNAVAILABLE, running.reason)
            if running.is_cancelled:
                ended = replace(ended, state=OperationState.CANCELLED)
        except Exception:
            logger.exception("%s failed", running.operation.name)
            ended = _failed(
                running.operation, Code.INTERNAL, f"internal error; the log tells of {running.operation.id}"
            )
        finally:
            await source.close()
        await self._end(ended)

    async def _bring(self, running: "_Running", principal: Principal, name: ResourceName, source: ImportSource) -> None:
        key = name.account_id, name.resource_id
        before = await self._files.get_to_change(principal, *key)
        sizes = await source.open()
        running.operation = replace(running.operation, total_bytes=sum(sizes.values()))
        await asyncio.to_thread(self._transfers.require_space, running.operation.total_bytes)
        model = await self._files.announce_import(principal, *key, sizes, source.identity)
        for filename, size_bytes in sizes.items():
            await self._bring_file(running, model, source, filename, size_bytes, before.imported_from)
        await self._files.validate_upload(principal, *key)

    async def _bring_file(
        self,
        running: "_Running",
        model: Model,
        source: ImportSource,
        filename: str,
        size_bytes: int,
        imported_before: str,
    ) -> None:
        path = self._files.directory / model.directory / filename
        if await asyncio.to_thread(_is_there, source, filename, path, size_bytes, imported_before):
            running.tell(size_bytes)
            return
        part = self._transfers.partial(COLLECTION, model.directory, source.part_name(filename), size_bytes)
        with self._transfers.receiver.writing(path, part):
            await source.fetch(filename, size_bytes, part, running.tell)
            await self._files.take_in(model, filename, part)

    async def _end(self, operation: Operation) -> None:
        try:
            async with self._database.transaction() as tx:
                await operations.update(tx, replace(operation, updated_at=tx.now))
                told = operation.error_message or "imported"
                await audit.record_own_act(tx, "FinishOperation", operation.name, told)
        finally:
            del self._running[operation.name]

    def _as_it_is(self, operation: Operation) -> Operation:
        running = self._running.get(operation.name)
        return operation if running is None else running.operation


class _Running:
    """An operation under way. The row has its beginning and its end; what is between is only here."""

    task: "asyncio.Task[None]"

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.reason = ""
        """Why its task was cancelled."""
        self.is_cancelled = False
        """By a person."""

    def tell(self, num_bytes: int) -> None:
        self.operation = replace(self.operation, num_bytes=self.operation.num_bytes + num_bytes)


def _is_there(source: ImportSource, filename: str, path: Path, size_bytes: int, imported_before: str) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes and source.is_same(filename, path, imported_before)


def _failed(operation: Operation, code: Code, message: str, now: float | None = None) -> Operation:
    return replace(
        operation,
        state=OperationState.FAILED,
        error_code=code,
        error_message=message,
        updated_at=operation.updated_at if now is None else now,
    )
