"""Which models a deployment serves, and which deployment a model's plain name leads to: at most one per account.

Called within the transactions of whoever changes the deployment.
"""

import msgspec

from appliance.domain import DeployedModel, DeployedModelState, Deployment
from appliance.names import generate_id
from appliance.store import deployed_models
from appliance.store.database import Transaction


async def deploy(tx: Transaction, deployment: Deployment) -> None:
    """Its base model appears on it; the first deployment of a model is where the model's plain name leads."""
    others = await deployed_models.list_of_model(tx.connection, deployment.account_id, deployment.base_model)
    deployed = DeployedModel(
        account_id=deployment.account_id,
        id=generate_id(),
        model=deployment.base_model,
        deployment=deployment.name,
        is_default=not any(other.is_default for other in others),
        state=DeployedModelState.DEPLOYING,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await deployed_models.insert(tx, deployed)


async def finish_deploying(tx: Transaction, deployment: Deployment) -> None:
    for deployed in await deployed_models.list_of_deployment(tx.connection, deployment.name):
        if deployed.state is DeployedModelState.DEPLOYING:
            await _change(tx, deployed, DeployedModelState.DEPLOYED, deployed.is_default)


async def undeploy(tx: Transaction, deployment: Deployment) -> None:
    """The oldest other place of each of its models takes over the plain name."""
    for deployed in await deployed_models.list_of_deployment(tx.connection, deployment.name):
        await _change(tx, deployed, DeployedModelState.UNDEPLOYING, is_default=False)
        if deployed.is_default:
            others = await deployed_models.list_of_model(tx.connection, deployed.account_id, deployed.model)
            heir = next((other for other in others if other.state is not DeployedModelState.UNDEPLOYING), None)
            if heir is not None:
                await _change(tx, heir, heir.state, is_default=True)


async def _change(tx: Transaction, deployed: DeployedModel, state: DeployedModelState, is_default: bool) -> None:
    changed = msgspec.structs.replace(deployed, state=state, is_default=is_default, updated_at=tx.now)
    await deployed_models.update(tx, changed)
