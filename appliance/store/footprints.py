"""The footprints table: what replicas really held, by all that it depends on."""

import aiosqlite
import msgspec

from appliance.domain import Footprint
from appliance.store.database import Transaction

PUT = """
INSERT INTO footprints (key, num_bytes, kv_bytes, load_s, warm_load_s, measured_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    num_bytes = excluded.num_bytes, kv_bytes = excluded.kv_bytes, load_s = excluded.load_s,
    warm_load_s = excluded.warm_load_s, measured_at = excluded.measured_at
"""
LIST_ALL = "SELECT key, num_bytes, kv_bytes, load_s, warm_load_s, measured_at FROM footprints ORDER BY key"
DELETE_BEFORE = "DELETE FROM footprints WHERE measured_at < ?"


async def put(tx: Transaction, footprint: Footprint) -> None:
    """The newest measurement takes the place of an older one."""
    await tx.connection.execute(
        PUT,
        (
            footprint.key,
            footprint.num_bytes,
            footprint.kv_bytes,
            footprint.load_s,
            footprint.warm_load_s,
            footprint.measured_at,
        ),
    )


async def list_all(db: aiosqlite.Connection) -> list[Footprint]:
    return [msgspec.convert(dict(row), Footprint) for row in await db.execute_fetchall(LIST_ALL)]


async def delete_before(tx: Transaction, measured_at: float) -> None:
    """Forget what was not seen again since: models are deleted, versions change."""
    await tx.connection.execute(DELETE_BEFORE, (measured_at,))
