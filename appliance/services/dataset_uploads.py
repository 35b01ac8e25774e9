"""From UPLOADING to READY: which files a dataset consists of, their arrival, and the check of every line.

What was announced and what has arrived stands in the row, so that after a crash an upload goes on where it was. Also
the place that transfers bring the files of datasets to and take them from.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from appliance.domain import Dataset, DatasetFile, DatasetState, Principal, QuotaMetric
from appliance.errors import Code, HearthError
from appliance.services import audit, dataset_folders
from appliance.services.access import not_found
from appliance.services.dataset_checking import DatasetChecker
from appliance.services.dataset_validation import PROBLEMS_MAX, Report
from appliance.services.datasets import COLLECTION, Datasets
from appliance.services.grants import Grant, check_filename
from appliance.services.quotas import require_room
from appliance.services.transfers import Transfers
from appliance.services.uploads import ReceivedFile, Receiver, Span, num_bytes_of, require_space
from appliance.store import datasets
from appliance.store.database import Connection, Database

FILE = "file"
"""What clients call it that is at fault; the message says which one."""


class DatasetUploads:
    takes_folders = False

    def __init__(
        self, database: Database, service: Datasets, checker: DatasetChecker, transfers: Transfers, uploads_dir: Path
    ) -> None:
        """`uploads_dir` exists and shares a file system with the datasets' folders."""
        self.directory = service.directory
        self._database = database
        self._datasets = service
        self._checker = checker
        self._transfers = transfers
        self._uploads_dir = uploads_dir
        self._receiver = Receiver()
        self._checks: dict[str, asyncio.Task[Dataset]] = {}
        transfers.register(COLLECTION, self)

    async def close(self) -> None:
        """End the checks under way; who asks again after the next start has them done anew."""
        checks = list(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    async def upload_urls(
        self,
        principal: Principal,
        account_id: str,
        dataset_id: str,
        filename_to_size: Mapping[str, int],
        base_url: str,
    ) -> dict[str, str]:
        """These files and no others make up the dataset. Those of them that are here already need not come again."""
        dataset = await self._datasets.get_to_change(principal, account_id, dataset_id)
        _require_uploading(dataset)
        sizes = dict(filename_to_size)
        urls = self._transfers.upload_urls(
            COLLECTION, account_id, dataset_id, dataset.directory, sizes, base_url, is_resumable=True
        )
        await self._announce(principal, dataset, sizes)
        return urls

    async def upload(
        self,
        principal: Principal,
        account_id: str,
        dataset_id: str,
        filename: str,
        chunks: AsyncIterator[bytes],
        size_bytes_max: int,
    ) -> Dataset:
        """The one file that the dataset consists of; checked, and READY when this returns."""
        check_filename(filename, FILE)
        dataset = await self._datasets.get_to_change(principal, account_id, dataset_id)
        _require_uploading(dataset)
        await asyncio.to_thread(require_space, self._uploads_dir, size_bytes_max)
        part = self._uploads_dir / secrets.token_hex(16)
        try:
            await self._receiver.append(part, Span(0, size_bytes_max), chunks, keeps_broken=False, is_exact=False)
            file = ReceivedFile(part, await self._receiver.digest(part))
            size_bytes = await asyncio.to_thread(num_bytes_of, part)
            await self._announce(principal, dataset, {filename: size_bytes})
            await self._take_in(dataset, DatasetFile(filename=filename, size_bytes=size_bytes), file)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return await self.validate(principal, account_id, dataset_id)

    async def validate(self, principal: Principal, account_id: str, dataset_id: str) -> Dataset:
        """Check every line and make the dataset READY; raises `invalid` with what is wrong, and where.

        The check goes on although its caller leaves, as impatient ones do; who asks again waits for the same one.
        """
        dataset = await self._datasets.get_to_change(principal, account_id, dataset_id)
        check = self._checks.get(dataset.directory)
        if check is None:
            check = asyncio.create_task(self._validate(principal, dataset), name="check of a dataset")
            self._checks[dataset.directory] = check
            check.add_done_callback(lambda task: self._forget(dataset.directory, task))
        return await asyncio.shield(check)

    async def require(self, grant: Grant) -> None:
        async with self._database.reader() as db:
            dataset = await _find_granted(db, grant)
        if grant.is_upload:
            _require_announced(dataset, grant.filename, grant.size_bytes)

    async def receive(self, grant: Grant, file: ReceivedFile) -> None:
        async with self._database.reader() as db:
            dataset = await _find_granted(db, grant)
        await self._take_in(dataset, DatasetFile(filename=grant.filename, size_bytes=grant.size_bytes), file)

    async def list_directories(self) -> set[str]:
        async with self._database.reader() as db:
            return set(await datasets.list_folders(db))

    async def _announce(self, principal: Principal, dataset: Dataset, sizes: dict[str, int]) -> None:
        async with self._datasets.folder_lock(dataset):
            async with self._database.transaction() as tx:
                dataset = await _reload(tx.connection, dataset)
                here = {(file.filename, file.size_bytes): file for file in dataset.files if file.sha256}
                files = [
                    here.get((name, size)) or DatasetFile(filename=name, size_bytes=size)
                    for name, size in sizes.items()
                ]
                size_bytes = sum(sizes.values())
                await require_room(tx, dataset.account_id, QuotaMetric.DISK_BYTES, size_bytes - dataset.size_bytes)
                await datasets.update(tx, replace(dataset, files=files, size_bytes=size_bytes, updated_at=tx.now))
                await audit.record(tx, principal, dataset.name, ["filenameToSize"])
            kept = {file.filename for file in files if file.sha256}
            await asyncio.to_thread(dataset_folders.remove_others, self.directory / dataset.directory, kept)

    async def _take_in(self, dataset: Dataset, announced: DatasetFile, file: ReceivedFile) -> None:
        """File first, row second: what the row knows is there."""
        async with self._datasets.folder_lock(dataset):
            async with self._database.reader() as db:
                current = await _reload(db, dataset)
            _require_announced(current, announced.filename, announced.size_bytes)
            folder = self.directory / dataset.directory
            await asyncio.to_thread(dataset_folders.take_in, file.path, folder, announced.filename)
            arrived = replace(announced, sha256=file.sha256)
            async with self._database.transaction() as tx:
                current = await _reload(tx.connection, dataset)
                files = [arrived if each.filename == arrived.filename else each for each in current.files]
                await datasets.update(tx, replace(current, files=files, updated_at=tx.now))

    async def _validate(self, principal: Principal, dataset: Dataset) -> Dataset:
        async with self._datasets.folder_lock(dataset):
            dataset = await self._datasets.get_to_change(principal, dataset.account_id, dataset.id)
            if dataset.state is DatasetState.READY:
                return dataset
            _require_complete(dataset)
            (report,) = await self._checker.check([dataset], self.directory)
            if report.problems:
                message = describe_problems(report.problems)
                await self._update(dataset, status_message=message)
                raise HearthError(Code.INVALID, message, FILE)
            async with self._database.transaction() as tx:
                ready = as_ready(await _reload(tx.connection, dataset), report, tx.now)
                await datasets.update(tx, ready)
                await audit.record(tx, principal, ready.name)
            return ready

    async def _update(self, dataset: Dataset, *, status_message: str) -> None:
        async with self._database.transaction() as tx:
            current = await _reload(tx.connection, dataset)
            await datasets.update(tx, replace(current, status_message=status_message, updated_at=tx.now))

    def _forget(self, directory: str, check: "asyncio.Task[Dataset]") -> None:
        del self._checks[directory]
        if not check.cancelled():
            check.exception()  # whoever was to be told may have left


def as_ready(dataset: Dataset, report: Report, now: float) -> Dataset:
    """With what the check found out."""
    return replace(
        dataset,
        state=DatasetState.READY,
        status_message="\n".join(report.warnings),
        format=report.format,
        example_count=report.num_examples,
        estimated_token_count=report.num_tokens,
        average_turn_count=report.num_turns / report.num_examples,
        updated_at=now,
    )


def describe_problems(problems: list[str]) -> str:
    """One line for each."""
    if len(problems) == 1:
        return problems[0]
    so_far = ", and reading stopped there" if len(problems) >= PROBLEMS_MAX else ""
    return "\n".join([f"{len(problems)} lines cannot be taken{so_far}:", *problems])


async def _find_granted(db: Connection, grant: Grant) -> Dataset:
    """The one that the URL was made for, not a later one of the same name."""
    dataset = await datasets.get(db, grant.account_id, grant.resource_id)
    if dataset is None or dataset.directory != grant.directory:
        raise not_found(f"accounts/{grant.account_id}/datasets/{grant.resource_id}")
    return dataset


async def _reload(db: Connection, dataset: Dataset) -> Dataset:
    """The row as it is now, if it is still that dataset and takes files. Only under the folder's lock."""
    current = await datasets.get(db, dataset.account_id, dataset.id)
    if current is None or current.directory != dataset.directory:
        raise not_found(dataset.name)
    _require_uploading(current)
    return current


def _require_uploading(dataset: Dataset) -> None:
    if dataset.state is not DatasetState.UPLOADING:
        raise HearthError(
            Code.FAILED_PRECONDITION, f"{dataset.name} is {dataset.state} and never changes; create a new dataset"
        )


def _require_announced(dataset: Dataset, filename: str, size_bytes: int) -> None:
    _require_uploading(dataset)
    if not any((file.filename, file.size_bytes) == (filename, size_bytes) for file in dataset.files):
        raise HearthError(
            Code.FAILED_PRECONDITION,
            f"{filename} of {size_bytes} bytes is no longer a file of {dataset.name}: others were announced since",
        )


def _require_complete(dataset: Dataset) -> None:
    missing = [file.filename for file in dataset.files if not file.sha256]
    if missing or not dataset.files:
        what = ", ".join(missing[:10]) or "no file"
        raise HearthError(
            Code.FAILED_PRECONDITION,
            f"{dataset.name}: {what} {'has' if len(missing) <= 1 else 'have'} not arrived yet; upload first",
        )
