"""Library models that nobody has to deploy: the first request for one makes its deployment, which all accounts share.

Such a deployment has the model's id, belongs to the library and follows the ordinary defaults: it scales to zero, and
is deleted after long disuse; the next request then makes it anew. It is the first to be evicted.
"""

from appliance.config import IdentitySettings
from appliance.domain import Deployment, DeploymentState, Model, Principal
from appliance.errors import Code, HearthError
from appliance.services import audit
from appliance.services.quotas import QuotaMetric, require_room
from appliance.services.serving import deploy
from appliance.services.targets import Target, find_serverless, find_target
from appliance.store import deployed_models, deployments
from appliance.store.database import Database, Transaction

RETRY_AFTER_S = 1.0


async def deploy_for_request(
    database: Database, principal: Principal, model_field: str, settings: IdentitySettings
) -> Target | None:
    """Where a request goes that found no target; None when it means no serverless model.

    One transaction looks and makes, so that requests at the same moment make one deployment.
    """
    async with database.reader() as db:
        if await find_serverless(db, principal, model_field, settings) is None:
            return None  # most names that lead nowhere never reach the writer
    async with database.transaction() as tx:
        target = await find_target(tx.connection, principal, model_field, settings)
        if target is not None:
            return target
        model = await find_serverless(tx.connection, principal, model_field, settings)
        if model is None or not await _clear_place(tx, model):
            return None
        deployment = new_deployment(model, tx.now)
        await require_room(tx, model.account_id, QuotaMetric.REPLICAS, deployment.max_replica_count)
        await deployments.insert(tx, deployment)
        await deploy(tx, deployment)
        await audit.record_own_act(tx, "CreateDeployment", deployment.name, "a request came for a serverless model")
        return Target(deployment, model)


def new_deployment(model: Model, now: float) -> Deployment:
    """At zero replicas: the request that made it wakes it."""
    return Deployment(
        account_id=model.account_id,
        id=model.id,
        display_name=model.display_name,
        base_model=model.name,
        state=DeploymentState.CREATING,
        desired_replica_count=0,
        draft_model=model.default_draft_model,
        draft_token_count=model.default_draft_token_count,
        is_serverless=True,
        created_at=now,
        updated_at=now,
    )


async def _clear_place(tx: Transaction, model: Model) -> bool:
    """Whether a new deployment can have the model's id.

    One of that id which serves, but not under the model's name, is what an administrator of the library wants.
    """
    present = await deployments.get(tx.connection, model.account_id, model.id)
    if present is None:
        return True
    if present.state is DeploymentState.DELETING:
        raise HearthError(
            Code.UNAVAILABLE,
            f"{present.name} is being stopped; the next request makes it anew",
            retry_after_s=RETRY_AFTER_S,
            reason="DEPLOYMENT_SCALING_UP",
        )
    if present.state is not DeploymentState.DELETED:
        return False
    await deployed_models.delete_of_deployment(tx, present.name)
    await deployments.delete(tx, present.account_id, present.id)
    await audit.record_own_act(
        tx, "PurgeDeployment", present.name, "a request came for its model, which takes its place"
    )
    return True
