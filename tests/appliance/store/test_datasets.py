import sqlite3

import pytest
from msgspec.structs import replace

from appliance.domain import Dataset, DatasetFile, DatasetFormat, DatasetState
from appliance.store import datasets
from appliance.store.database import Database
from tests.appliance.store.samples import insert_account

DATASET = Dataset(
    account_id="acme",
    id="qa",
    display_name="Questions",
    state=DatasetState.READY,
    status_message="odd",
    format=DatasetFormat.CHAT,
    example_count=3,
    estimated_token_count=30,
    average_turn_count=1.5,
    directory="folder",
    files=[DatasetFile(filename="a.jsonl", size_bytes=10, sha256="ab"), DatasetFile(filename="b.jsonl", size_bytes=5)],
    size_bytes=15,
    source_dataset="accounts/acme/datasets/source",
    created_by="ada",
    created_at=1.5,
    updated_at=2.5,
)


async def test_a_dataset_is_found_as_it_was_inserted(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await datasets.insert(tx, DATASET)
    async with database.reader() as db:
        assert await datasets.get(db, "acme", "qa") == DATASET
        assert await datasets.get(db, "other", "qa") is None


async def test_an_update_writes_every_column(database: Database) -> None:
    await insert_account(database)
    before = Dataset(
        account_id="acme", id="qa", state=DatasetState.UPLOADING, directory="other", created_at=0.0, updated_at=0.0
    )
    async with database.transaction() as tx:
        await datasets.insert(tx, before)
        assert await datasets.get(tx.connection, "acme", "qa") == before
        await datasets.update(tx, DATASET)
        assert await datasets.get(tx.connection, "acme", "qa") == DATASET


async def test_lists_bytes_and_folders_are_an_accounts_and_everybodys(database: Database) -> None:
    await insert_account(database)
    second = replace(DATASET, id="az", directory="second", files=[], size_bytes=7)
    async with database.transaction() as tx:
        await datasets.insert(tx, DATASET)
        await datasets.insert(tx, second)
        assert await datasets.list_in_account(tx.connection, "acme") == [second, DATASET]
        assert await datasets.list_in_account(tx.connection, "other") == []
        assert await datasets.count_bytes(tx.connection, "acme") == 22
        assert await datasets.count_bytes(tx.connection, "other") == 0
        assert await datasets.list_folders(tx.connection) == {"folder": {"a.jsonl", "b.jsonl"}, "second": set()}
        await datasets.delete(tx, "acme", "qa")
        assert await datasets.list_in_account(tx.connection, "acme") == [second]


async def test_no_two_datasets_share_a_folder(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await datasets.insert(tx, DATASET)
        with pytest.raises(sqlite3.IntegrityError):
            await datasets.insert(tx, replace(DATASET, id="other"))
