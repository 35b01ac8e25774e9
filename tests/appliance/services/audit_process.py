"""A process with a state store and an audit head that appends rows until it is killed.

`python -m tests.appliance.services.audit_process DATABASE`: says how many rows the head outside the database knows.
"""

import asyncio
import sys
from pathlib import Path

from appliance.services import audit
from appliance.services.audit_head import AuditHead
from appliance.store.database import Database

KEY = b"a" * 32


async def append_for_ever(path: Path) -> None:
    database = await Database.open(path, KEY)
    head = AuditHead(database, path, KEY)
    await head.begin("acme", "version 1")
    number = 1
    while True:
        for _ in range(10):
            number += 1
            async with database.transaction() as tx:
                await audit.record_own_act(tx, "CreateModel", f"accounts/acme/models/m{number}", "m" * 200)
        await head.write()
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(append_for_ever(Path(sys.argv[1])))
