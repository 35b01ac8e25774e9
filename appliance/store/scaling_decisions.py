"""The scaling_decisions table: why each deployment had how many replicas, the newest decisions of each."""

import aiosqlite
import msgspec

from appliance.domain import ScalingDecision
from appliance.store.database import Transaction

INSERT = """
INSERT INTO scaling_decisions (account_id, deployment_id, at, from_count, to_count, reason) VALUES (?, ?, ?, ?, ?, ?)
"""
LIST_OF_DEPLOYMENT = """
SELECT account_id, deployment_id, at, from_count, to_count, reason FROM scaling_decisions
WHERE account_id = ? AND deployment_id = ? ORDER BY at DESC, rowid DESC LIMIT ?
"""
FORGET_OLD = """
DELETE FROM scaling_decisions WHERE account_id = ? AND deployment_id = ? AND rowid NOT IN (
    SELECT rowid FROM scaling_decisions WHERE account_id = ? AND deployment_id = ? ORDER BY at DESC, rowid DESC LIMIT ?
)
"""
DELETE_ORPHANS = """
DELETE FROM scaling_decisions WHERE NOT EXISTS (
    SELECT 1 FROM deployments
    WHERE deployments.account_id = scaling_decisions.account_id AND deployments.id = scaling_decisions.deployment_id
)
"""


async def add(tx: Transaction, decision: ScalingDecision, keep: int) -> None:
    """Only the newest `keep` of its deployment stay."""
    key = (decision.account_id, decision.deployment_id)
    await tx.connection.execute(INSERT, (*key, decision.at, decision.from_count, decision.to_count, decision.reason))
    await tx.connection.execute(FORGET_OLD, (*key, *key, keep))


async def list_of_deployment(
    db: aiosqlite.Connection, account_id: str, deployment_id: str, limit: int
) -> list[ScalingDecision]:
    """Newest first."""
    rows = await db.execute_fetchall(LIST_OF_DEPLOYMENT, (account_id, deployment_id, limit))
    return [msgspec.convert(dict(row), ScalingDecision) for row in rows]


async def delete_orphans(tx: Transaction) -> None:
    """Forget the history of deployments that are purged."""
    await tx.connection.execute(DELETE_ORPHANS)
