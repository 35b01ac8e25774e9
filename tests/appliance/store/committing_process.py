"""A process that commits rows and acknowledges each on stdout, to be killed or starved of disk by a test.

`python -m tests.appliance.store.committing_process DATABASE [LIMIT_BYTES]`: no file may grow beyond the limit.
"""

import asyncio
import resource
import sys
from pathlib import Path

from appliance.domain import Account
from appliance.errors import HearthError
from appliance.store import accounts
from appliance.store.database import Database

TRIES_AFTER_FAILURE = 5


async def commit_for_ever(path: Path, limit_bytes: int | None) -> None:
    database = await Database.open(path, bytes(32))
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    async with database.reader() as db:
        first = len(list(await db.execute_fetchall("SELECT id FROM accounts")))
    failures = 0
    number = first
    while failures <= TRIES_AFTER_FAILURE:
        try:
            async with database.transaction() as tx:
                account = Account(id=f"account-{number}", email="e" * 2000, created_at=tx.now, updated_at=tx.now)
                await accounts.insert(tx, account)
            print("acknowledged", account.id, flush=True)
            number += 1
        except HearthError as error:
            failures += 1
            print("refused", error.code, database.is_failed, flush=True)
            # A disk that works again must make no difference: what it dropped meanwhile is unknown.
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await database.close()


if __name__ == "__main__":
    asyncio.run(commit_for_ever(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
