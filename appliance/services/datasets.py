"""Datasets: their rows, and what may be read of their files. How they become READY is `dataset_uploads.py`'s.

Row and folder agree after any crash: files arrive before the row says so and leave after it does; `sweep` removes what
a crash left between. What is READY never changes again, and is for its own account alone.
"""

import asyncio
import builtins
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from msgspec.structs import replace

from appliance.config import DatasetSettings, IdentitySettings
from appliance.domain import Dataset, DatasetFormat, DatasetState, Principal, QuotaMetric
from appliance.errors import Code, HearthError
from appliance.names import generate_id, parse_name, validate_id
from appliance.services import audit, dataset_folders
from appliance.services.access import can_look_inside, not_found, require_change
from appliance.services.dataset_split import read_preview
from appliance.services.quotas import require_room
from appliance.services.transfers import Transfers
from appliance.store import datasets
from appliance.store.database import Connection, Database, Transaction
from appliance.store.durable_files import remove_tree

COLLECTION = "datasets"
DISPLAY_NAME_LENGTH_MAX = 63
PREVIEW_EXAMPLES_MAX = 100


class Datasets:
    def __init__(
        self,
        database: Database,
        settings: DatasetSettings,
        identity: IdentitySettings,
        transfers: Transfers,
        datasets_dir: Path,
    ) -> None:
        """The directory exists."""
        self.settings = settings
        self.directory = datasets_dir
        self._database = database
        self._identity = identity
        self._transfers = transfers
        self._folder_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def sweep(self) -> None:
        """Remove what a crash left: folders and files that no row owns. Before anything is served."""
        async with self._database.reader() as db:
            folders = await datasets.list_folders(db)
        await asyncio.to_thread(dataset_folders.sweep, self.directory, folders)

    async def create(
        self,
        principal: Principal,
        account_id: str,
        dataset_id: str,
        *,
        display_name: str,
        format: DatasetFormat | None,
        example_count: int | None,
        fields: builtins.list[str],
    ) -> Dataset:
        """One that waits for its files. `format`: what each line must be; None: what the first one is."""
        validate_id(dataset_id, "datasetId")
        _check_display_name(display_name, "dataset.displayName")
        if example_count is not None and not 1 <= example_count <= self.settings.dataset_examples_max:
            rule = f"between 1 and {self.settings.dataset_examples_max}"
            raise HearthError(Code.INVALID, f"dataset.exampleCount: {rule}", "dataset.exampleCount")
        async with self._database.transaction() as tx:
            dataset = Dataset(
                account_id=account_id,
                id=dataset_id,
                display_name=display_name,
                state=DatasetState.UPLOADING,
                format=format,
                example_count=example_count,
                directory=generate_id(16),
                created_by=principal.user_id,
                created_at=tx.now,
                updated_at=tx.now,
            )
            await self.add(tx, principal, dataset, fields)
        return dataset

    async def add(self, tx: Transaction, principal: Principal, dataset: Dataset, fields: Iterable[str] = ()) -> None:
        """The row of a new dataset, if this caller may have it under that name."""
        self.require_sight(principal, dataset.account_id)
        require_change(principal, dataset.account_id, dataset.name, self._identity)
        if await datasets.get(tx.connection, dataset.account_id, dataset.id) is not None:
            raise HearthError(Code.CONFLICT, f"{dataset.name} already exists", "datasetId")
        await require_room(tx, dataset.account_id, QuotaMetric.DISK_BYTES, dataset.size_bytes)
        await datasets.insert(tx, dataset)
        await audit.record(tx, principal, dataset.name, fields)

    async def get(self, principal: Principal, account_id: str, dataset_id: str) -> Dataset:
        async with self._database.reader() as db:
            return await self._find(db, principal, account_id, dataset_id)

    async def list(self, principal: Principal, account_id: str) -> builtins.list[Dataset]:
        """By id."""
        self.require_sight(principal, account_id)
        async with self._database.reader() as db:
            return await datasets.list_in_account(db, account_id)

    async def get_to_change(self, principal: Principal, account_id: str, dataset_id: str) -> Dataset:
        """Refused to those who may only look."""
        async with self._database.reader() as db:
            return await self._find_to_change(db, principal, account_id, dataset_id)

    async def update(self, principal: Principal, account_id: str, dataset_id: str, *, display_name: str) -> Dataset:
        _check_display_name(display_name, "displayName")
        async with self._database.transaction() as tx:
            dataset = await self._find_to_change(tx.connection, principal, account_id, dataset_id)
            dataset = replace(dataset, display_name=display_name, updated_at=tx.now)
            await datasets.update(tx, dataset)
            await audit.record(tx, principal, dataset.name, ["displayName"])
        return dataset

    async def delete(self, principal: Principal, account_id: str, dataset_id: str) -> None:
        dataset = await self.get_to_change(principal, account_id, dataset_id)
        async with self.folder_lock(dataset):
            async with self._database.transaction() as tx:
                dataset = await self._find_to_change(tx.connection, principal, account_id, dataset_id)
                await datasets.delete(tx, account_id, dataset_id)
                await audit.record(tx, principal, dataset.name)
            await asyncio.to_thread(remove_tree, self.directory / dataset.directory)

    async def download_urls(
        self, principal: Principal, account_id: str, dataset_id: str, base_url: str, with_lineage: bool
    ) -> dict[str, str]:
        """By file name; with what it was split from, by dataset and file name."""
        async with self._database.transaction() as tx:
            lineage = [await self._find(tx.connection, principal, account_id, dataset_id)]
            require_ready(lineage[0])
            while with_lineage and (source := await _source_of(tx.connection, lineage[-1])) is not None:
                lineage.append(source)
            for dataset in lineage:
                await audit.record(tx, principal, dataset.name)
        urls: dict[str, str] = {}
        for dataset in lineage:
            of_one = self._transfers.download_urls(
                COLLECTION,
                account_id,
                dataset.id,
                dataset.directory,
                [file.filename for file in dataset.files],
                base_url,
            )
            urls |= {f"{dataset.id}/{name}" if with_lineage else name: url for name, url in of_one.items()}
        return urls

    async def preview(
        self, principal: Principal, account_id: str, dataset_id: str, max_examples: int
    ) -> builtins.list[dict[str, Any]]:
        """Its first examples."""
        async with self._database.transaction() as tx:
            dataset = await self._find(tx.connection, principal, account_id, dataset_id)
            require_ready(dataset)
            await audit.record(tx, principal, dataset.name)
        async with self.folder_lock(dataset):
            await self.get(principal, account_id, dataset_id)  # not deleted meanwhile
            return await asyncio.to_thread(
                read_preview,
                self.paths(dataset),
                min(max_examples, PREVIEW_EXAMPLES_MAX),
                self.settings.dataset_preview_bytes,
                self.settings.dataset_line_bytes_max,
            )

    def paths(self, dataset: Dataset) -> builtins.list[Path]:
        return [self.directory / dataset.directory / file.filename for file in dataset.files]

    def folder_lock(self, dataset: Dataset) -> asyncio.Lock:
        """Held while the folder's content must stand still: checked, added to, removed."""
        return self._folder_locks.setdefault(dataset.directory, asyncio.Lock())

    def require_sight(self, principal: Principal, account_id: str) -> None:
        """Datasets are private: the library's, too, are for those alone who keep it."""
        if not can_look_inside(principal, account_id, self._identity):
            raise not_found(f"accounts/{account_id}")

    async def _find_to_change(self, db: Connection, principal: Principal, account_id: str, dataset_id: str) -> Dataset:
        dataset = await self._find(db, principal, account_id, dataset_id)
        require_change(principal, account_id, dataset.name, self._identity, dataset.created_by)
        return dataset

    async def _find(self, db: Connection, principal: Principal, account_id: str, dataset_id: str) -> Dataset:
        self.require_sight(principal, account_id)
        dataset = await datasets.get(db, account_id, dataset_id)
        if dataset is None:
            raise not_found(f"accounts/{account_id}/datasets/{dataset_id}")
        return dataset


def require_ready(dataset: Dataset) -> None:
    if dataset.state is not DatasetState.READY:
        raise HearthError(Code.FAILED_PRECONDITION, f"{dataset.name} is {dataset.state}; upload its files first")


async def _source_of(db: Connection, dataset: Dataset) -> Dataset | None:
    """What it was split from, unless that is gone."""
    if dataset.source_dataset is None:
        return None
    name = parse_name(dataset.source_dataset, COLLECTION, "source")
    return await datasets.get(db, name.account_id, name.resource_id)


def _check_display_name(text: str, param: str) -> None:
    if len(text) > DISPLAY_NAME_LENGTH_MAX:
        raise HearthError(
            Code.INVALID, f"{param}: at most {DISPLAY_NAME_LENGTH_MAX} characters, has {len(text)}", param
        )
