"""A READY dataset cut into several, each READY at once and independent of where it came from."""

import asyncio
import secrets
from pathlib import Path

from msgspec.structs import replace

from appliance.domain import Dataset, DatasetState, Principal, QuotaMetric
from appliance.errors import Code, HearthError
from appliance.names import ID_LENGTH_MAX, generate_id
from appliance.services.dataset_checking import DatasetChecker
from appliance.services.dataset_split import Chunk, write_chunks
from appliance.services.dataset_uploads import as_ready
from appliance.services.datasets import Datasets, require_ready
from appliance.services.quotas import require_room
from appliance.services.uploads import require_space
from appliance.store import datasets
from appliance.store.database import Database
from appliance.store.durable_files import move_into_place, remove_tree


class DatasetChunks:
    def __init__(self, database: Database, service: Datasets, checker: DatasetChecker, uploads_dir: Path) -> None:
        """`uploads_dir` exists and shares a file system with the datasets' folders."""
        self._database = database
        self._datasets = service
        self._checker = checker
        self._uploads_dir = uploads_dir

    async def split(self, principal: Principal, account_id: str, dataset_id: str, chunk_size: int) -> list[Dataset]:
        """All chunks or none: `ID-chunk-1`, `ID-chunk-2`, … of `chunk_size` examples each, the last of the rest."""
        source = await self._datasets.get(principal, account_id, dataset_id)
        require_ready(source)
        planned = self._plan(source, principal, chunk_size)
        async with self._datasets.folder_lock(source):
            await self._datasets.get(principal, account_id, dataset_id)  # not deleted meanwhile
            await self._require_free(planned, source)
            folders = [self._uploads_dir / secrets.token_hex(16) for _ in planned]
            placed = [self._datasets.directory / chunk.directory for chunk in planned]
            unowned = [*folders, *placed]
            try:
                chunks = await asyncio.to_thread(self._write, source, planned, chunk_size, folders)
                await asyncio.to_thread(_move_all, chunks, placed)
                ready = await self._add(
                    principal,
                    [
                        replace(one, files=[chunk.file], size_bytes=chunk.file.size_bytes)
                        for one, chunk in zip(planned, chunks, strict=True)
                    ],
                )
                unowned.clear()
                return ready
            finally:
                await asyncio.to_thread(_remove_all, unowned)

    def _plan(self, source: Dataset, principal: Principal, chunk_size: int) -> list[Dataset]:
        assert source.example_count is not None, "every READY dataset has been counted"
        num_chunks = -(-source.example_count // chunk_size)
        num_max = self._datasets.settings.dataset_chunks_max
        if num_chunks > num_max:
            message = f"chunkSize: {chunk_size} makes {num_chunks} chunks of {source.name}; at most {num_max}"
            raise HearthError(Code.INVALID, message, "chunkSize")
        return [
            replace(
                source,
                id=_chunk_id(source.id, number),
                display_name="",
                state=DatasetState.UPLOADING,
                directory=generate_id(16),
                files=[],
                source_dataset=source.name,
                created_by=principal.user_id,
            )
            for number in range(1, num_chunks + 1)
        ]

    async def _require_free(self, planned: list[Dataset], source: Dataset) -> None:
        """Before any work; decided again when the rows are written."""
        async with self._database.transaction() as tx:
            for chunk in planned:
                if await datasets.get(tx.connection, chunk.account_id, chunk.id) is not None:
                    raise HearthError(Code.CONFLICT, f"{chunk.name} already exists; delete or split it instead")
            await require_room(tx, source.account_id, QuotaMetric.DISK_BYTES, source.size_bytes)
        await asyncio.to_thread(require_space, self._uploads_dir, source.size_bytes)

    def _write(self, source: Dataset, planned: list[Dataset], chunk_size: int, folders: list[Path]) -> list[Chunk]:
        return write_chunks(
            self._datasets.paths(source),
            chunk_size,
            folders,
            [f"{chunk.id}.jsonl" for chunk in planned],
            self._datasets.settings.dataset_line_bytes_max,
        )

    async def _add(self, principal: Principal, written: list[Dataset]) -> list[Dataset]:
        reports = await self._checker.check(written, self._datasets.directory)
        async with self._database.transaction() as tx:
            ready = [
                replace(as_ready(chunk, report, tx.now), created_at=tx.now)
                for chunk, report in zip(written, reports, strict=True)
            ]
            for chunk in ready:
                await self._datasets.add(tx, principal, chunk)
        return ready


def _chunk_id(dataset_id: str, number: int) -> str:
    ending = f"-chunk-{number}"
    return dataset_id[: ID_LENGTH_MAX - len(ending)].rstrip("-") + ending


def _move_all(chunks: list[Chunk], placed: list[Path]) -> None:
    for chunk, place in zip(chunks, placed, strict=True):
        move_into_place(chunk.folder, place)


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        remove_tree(path)
