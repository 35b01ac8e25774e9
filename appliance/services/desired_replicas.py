"""How many replicas are desired of a deployment, and the note of why: the one door through which the number changes.

Both are written in the caller's transaction or not at all. Whether the number is allowed is the caller's to know;
telling the supervisor to look, after the commit, too.
"""

import msgspec

from appliance.domain import Deployment, ScalingDecision
from appliance.store import deployments, scaling_decisions
from appliance.store.database import Transaction


async def desire(tx: Transaction, deployment: Deployment, to_count: int, reason: str, keep: int) -> Deployment:
    """`deployment` is the row as this transaction read it. Nothing is written when the count is what it was.

    Its `updated_at` stays: that is when a person changed what is asked of it. The newest `keep` decisions stay.
    """
    if to_count == deployment.desired_replica_count:
        return deployment
    changed = msgspec.structs.replace(deployment, desired_replica_count=to_count)
    decision = ScalingDecision(
        account_id=deployment.account_id,
        deployment_id=deployment.id,
        at=tx.now,
        from_count=deployment.desired_replica_count,
        to_count=to_count,
        reason=reason,
    )
    await deployments.update(tx, changed)
    await scaling_decisions.add(tx, decision, keep)
    return changed
