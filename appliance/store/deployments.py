"""The deployments table: a column for each field of the struct, of the same name."""

import aiosqlite
import msgspec

from appliance.domain import Deployment, DeploymentState
from appliance.names import ResourceName
from appliance.store.database import Transaction

_KEY = ("account_id", "id")
_COLUMNS = tuple(field for field in Deployment.__struct_fields__ if field not in _KEY)
_JSON = ("autoscaling", "annotations")
_ALL = ", ".join((*_KEY, *_COLUMNS))

INSERT = f"INSERT INTO deployments ({_ALL}) VALUES ({', '.join('?' * (len(_KEY) + len(_COLUMNS)))})"
GET = f"SELECT {_ALL} FROM deployments WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"""
SELECT {_ALL} FROM deployments WHERE account_id = ? AND (? OR state != ?) ORDER BY created_at, id
"""
LIST_ACTIVE = f"SELECT {_ALL} FROM deployments WHERE state != ? ORDER BY created_at, account_id, id"
LIST_OF_MODEL = f"""
SELECT {_ALL} FROM deployments WHERE (base_model = ? OR draft_model = ?) AND state != ? ORDER BY created_at, id
"""
UPDATE = f"UPDATE deployments SET {', '.join(f'{column} = ?' for column in _COLUMNS)} WHERE account_id = ? AND id = ?"
USE = "UPDATE deployments SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE account_id = ? AND id = ?"
MOVE_TIMES = """
UPDATE deployments SET
    last_used_at = min(max(coalesce(last_used_at, 0), created_at, updated_at) + ?, ?), purge_at = purge_at + ?
"""
COUNT_REPLICAS = """
SELECT coalesce(sum(max_replica_count), 0) FROM deployments WHERE account_id = ? AND state NOT IN (?, ?)
"""
DELETE = "DELETE FROM deployments WHERE account_id = ? AND id = ?"
PURGE = "DELETE FROM deployments WHERE state = ? AND purge_at <= ? RETURNING account_id, id"


async def insert(tx: Transaction, deployment: Deployment) -> None:
    await tx.connection.execute(INSERT, (deployment.account_id, deployment.id, *_values(deployment)))


async def get(db: aiosqlite.Connection, account_id: str, deployment_id: str) -> Deployment | None:
    for row in await db.execute_fetchall(GET, (account_id, deployment_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str, include_deleted: bool) -> list[Deployment]:
    """Oldest first."""
    rows = await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id, include_deleted, DeploymentState.DELETED))
    return [_read(row) for row in rows]


async def list_active(db: aiosqlite.Connection) -> list[Deployment]:
    """Of every account, all that are not DELETED, oldest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_ACTIVE, (DeploymentState.DELETED,))]


async def list_of_model(db: aiosqlite.Connection, model_name: str) -> list[Deployment]:
    """Of every account, all that are not DELETED and serve this model, or draft with it."""
    rows = await db.execute_fetchall(LIST_OF_MODEL, (model_name, model_name, DeploymentState.DELETED))
    return [_read(row) for row in rows]


async def count_replicas(db: aiosqlite.Connection, account_id: str) -> int:
    """That all its live deployments together may have."""
    leaving = (DeploymentState.DELETING, DeploymentState.DELETED)
    ((count,),) = await db.execute_fetchall(COUNT_REPLICAS, (account_id, *leaving))
    return int(count)


async def update(tx: Transaction, deployment: Deployment) -> None:
    """The whole row."""
    await tx.connection.execute(UPDATE, (*_values(deployment), deployment.account_id, deployment.id))


async def use(tx: Transaction, account_id: str, deployment_id: str, at: float) -> None:
    """Note its last request; an earlier one changes nothing."""
    await tx.connection.execute(USE, (at, account_id, deployment_id))


async def move_times(tx: Transaction, by_s: float) -> None:
    """The clock jumped: move along what disuse and the end of undeleting are counted from, never into the future."""
    await tx.connection.execute(MOVE_TIMES, (by_s, tx.now, by_s))


async def delete(tx: Transaction, account_id: str, deployment_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, deployment_id))


async def purge(tx: Transaction) -> list[str]:
    """Forget what was deleted and can no longer be undeleted; their names."""
    rows = await tx.connection.execute_fetchall(PURGE, (DeploymentState.DELETED, tx.now))
    return [str(ResourceName(row["account_id"], "deployments", row["id"])) for row in rows]


def _values(deployment: Deployment) -> list[object]:
    """All columns but the key, in the order of INSERT and UPDATE."""
    return [
        msgspec.json.encode(getattr(deployment, column)).decode() if column in _JSON else getattr(deployment, column)
        for column in _COLUMNS
    ]


def _read(row: aiosqlite.Row) -> Deployment:
    decoded = {column: msgspec.json.decode(row[column]) for column in _JSON}
    return msgspec.convert({**dict(row), **decoded}, Deployment, strict=False)
