"""The replicas table: the worker processes that run or may have been left over. Its only writer is the orchestrator."""

import aiosqlite
import msgspec

from appliance.domain import ReplicaRow
from appliance.store.database import Transaction

PUT = """
INSERT INTO replicas (
    account_id, deployment_id, replica_index, device_ids, reserved_bytes, pid, pid_started_ticks, boot_id, started_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (account_id, deployment_id, replica_index) DO UPDATE SET
    device_ids = excluded.device_ids, reserved_bytes = excluded.reserved_bytes, pid = excluded.pid,
    pid_started_ticks = excluded.pid_started_ticks, boot_id = excluded.boot_id, started_at = excluded.started_at
"""
LIST_ALL = """
SELECT account_id, deployment_id, replica_index AS "index", device_ids, reserved_bytes, pid, pid_started_ticks, boot_id,
    started_at
FROM replicas ORDER BY account_id, deployment_id, replica_index
"""
DELETE = "DELETE FROM replicas WHERE account_id = ? AND deployment_id = ? AND replica_index = ?"


async def put(tx: Transaction, replica: ReplicaRow) -> None:
    """The new process of a replica replaces its old one."""
    await tx.connection.execute(
        PUT,
        (
            replica.account_id,
            replica.deployment_id,
            replica.index,
            msgspec.json.encode(replica.device_ids).decode(),
            replica.reserved_bytes,
            replica.pid,
            replica.pid_started_ticks,
            replica.boot_id,
            replica.started_at,
        ),
    )


async def list_all(db: aiosqlite.Connection) -> list[ReplicaRow]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(LIST_ALL)]


async def delete(tx: Transaction, account_id: str, deployment_id: str, index: int) -> None:
    await tx.connection.execute(DELETE, (account_id, deployment_id, index))


def _read(row: aiosqlite.Row) -> ReplicaRow:
    return msgspec.convert({**dict(row), "device_ids": msgspec.json.decode(row["device_ids"])}, ReplicaRow)
