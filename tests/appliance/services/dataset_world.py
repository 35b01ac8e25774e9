"""The services of datasets over a real database and real folders, and what tests say to them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from appliance.config import GIB, DatasetSettings, IdentitySettings
from appliance.domain import Dataset, DatasetFormat, Principal, Quota, QuotaMetric
from appliance.errors import HearthError
from appliance.services.dataset_checking import DatasetChecker
from appliance.services.dataset_chunks import DatasetChunks
from appliance.services.dataset_uploads import DatasetUploads
from appliance.services.datasets import Datasets
from appliance.services.transfers import Transfers
from appliance.store import audit_logs, quotas
from appliance.store.audit_logs import AuditSearch
from appliance.store.database import Database
from tests.appliance.services.samples import ADA, SIGNING_KEY
from tests.fakes.fake_clock import FakeClock

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
BASE_URL = "http://box:8080"


def jsonl(*examples: Any) -> bytes:
    return b"".join(json.dumps(example).encode() + b"\n" for example in examples)


async def stream(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


async def refusal(attempt: Any) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt
    return caught.value


class DatasetWorld:
    """May be built again over the same directories, as after a restart."""

    def __init__(self, root: Path, database: Database, clock: FakeClock, settings: DatasetSettings) -> None:
        self.datasets_dir, self.uploads_dir = root / "datasets", root / "uploads"
        for directory in (self.datasets_dir, self.uploads_dir):
            directory.mkdir(exist_ok=True)
        identity = IdentitySettings(account_id="home", library_account_id="library")
        self.database = database
        self.transfers = Transfers(self.uploads_dir, SIGNING_KEY, GIB, clock)
        self.datasets = Datasets(database, settings, identity, self.transfers, self.datasets_dir)
        checker = DatasetChecker(settings)
        self.uploads = DatasetUploads(database, self.datasets, checker, self.transfers, self.uploads_dir)
        self.chunks = DatasetChunks(database, self.datasets, checker, self.uploads_dir)

    async def create(
        self, dataset_id: str = "qa", who: Principal = ADA, format: DatasetFormat | None = None
    ) -> Dataset:
        return await self.datasets.create(
            who, who.account_id, dataset_id, display_name="", format=format, example_count=None, fields=[]
        )

    async def create_ready(self, dataset_id: str = "qa", content: bytes = jsonl(CHAT), who: Principal = ADA) -> Dataset:
        await self.create(dataset_id, who)
        return await self.upload(content, dataset_id=dataset_id, who=who)

    async def upload(
        self, content: bytes, filename: str = "train.jsonl", dataset_id: str = "qa", who: Principal = ADA
    ) -> Dataset:
        return await self.uploads.upload(who, who.account_id, dataset_id, filename, stream(content), 10**6)

    async def announce(self, sizes: dict[str, int], dataset_id: str = "qa", who: Principal = ADA) -> dict[str, str]:
        return await self.uploads.upload_urls(who, who.account_id, dataset_id, sizes, BASE_URL)

    async def put(self, url: str, content: bytes) -> None:
        token, _, filename = urlsplit(url).path.removeprefix("/v1/uploads/").partition("/")
        await self.transfers.receive(token, filename, None, stream(content))

    async def get(self, url: str) -> bytes:
        token, _, filename = urlsplit(url).path.removeprefix("/v1/downloads/").partition("/")
        return (await self.transfers.find_download(token, filename)).read_bytes()

    async def limit_disk(self, account_id: str, num_bytes: int) -> None:
        async with self.database.transaction() as tx:
            quota = Quota(account_id=account_id, metric=QuotaMetric.DISK_BYTES, max_value=num_bytes, updated_at=tx.now)
            await quotas.put(tx, quota)

    async def audited(self) -> list[tuple[str, list[str]]]:
        """Ids of resources of acme and the fields given, the oldest first."""
        everything = AuditSearch("acme", 0.0, float("inf"), "", is_newest_first=False)
        async with self.database.reader() as db:
            found = await audit_logs.search(db, everything, None, 1000)
        return [(each.entry.resource.rpartition("/")[2], each.entry.fields) for each in found]

    def files(self) -> dict[str, list[str]]:
        """Names of files by folder."""
        return {folder.name: sorted(file.name for file in folder.iterdir()) for folder in self.datasets_dir.iterdir()}
