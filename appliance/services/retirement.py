"""How a deployment goes away, whoever asked for it (a person, its own disuse, the end of its time), and comes back."""

import msgspec

from appliance.domain import Deployment, DeploymentState
from appliance.services import audit
from appliance.services.deployment_models import present_model
from appliance.services.desired_replicas import desire
from appliance.services.serving import restore, undeploy
from appliance.store import deployed_models, deployments, scaling_decisions
from appliance.store.database import Transaction


async def retire(tx: Transaction, deployment: Deployment, reason: str, *, purge_s: float, keep: int) -> Deployment:
    """DELETING; the supervisor stops its replicas, and it becomes DELETED. It can be undeleted for `purge_s`."""
    await undeploy(tx, deployment)
    leaving = msgspec.structs.replace(
        deployment,
        state=DeploymentState.DELETING,
        updated_at=tx.now,
        deleted_at=tx.now,
        purge_at=tx.now + purge_s,
    )
    await deployments.update(tx, leaving)
    return await desire(tx, leaving, 0, reason, keep)


async def bring_back(tx: Transaction, deployment: Deployment, keep: int) -> Deployment:
    """With its deployed models and the minimum of replicas that it asks for; one at zero wakes on demand.

    An end of its time that has passed meanwhile is taken away, for it would end at once again.
    """
    await present_model(tx.connection, deployment.base_model, "baseModel")
    if deployment.draft_model is not None:
        await present_model(tx.connection, deployment.draft_model, "draftModel")
    is_over = deployment.expires_at is not None and deployment.expires_at <= tx.now
    back = msgspec.structs.replace(
        deployment,
        state=DeploymentState.CREATING if deployment.min_replica_count else DeploymentState.READY,
        status_message="",
        expires_at=None if is_over else deployment.expires_at,
        updated_at=tx.now,
        deleted_at=None,
        purge_at=None,
    )
    await deployments.update(tx, back)
    await restore(tx, back)
    return await desire(tx, back, back.min_replica_count, "undeleted", keep)


async def forget(tx: Transaction, deployment: Deployment) -> None:
    """With all that was its."""
    await deployments.delete(tx, deployment.account_id, deployment.id)
    await _forget_orphans(tx)


async def forget_purged(tx: Transaction) -> None:
    """Those that can no longer be undeleted; only while the clock is believed."""
    for name in await deployments.purge(tx):
        await audit.record_own_act(tx, "PurgeDeployment", name, "it can no longer be undeleted")
    await _forget_orphans(tx)


async def _forget_orphans(tx: Transaction) -> None:
    await deployed_models.delete_orphans(tx)
    await scaling_decisions.delete_orphans(tx)
