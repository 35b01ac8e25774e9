"""Which models a deployment serves, and where a model's plain name leads: at most one place per account, its default.

Functions within the transactions of whoever changes a deployment or what is deployed on it. They write rows and
nothing else: who loads and unloads is `orchestrator/adapters.py`.
"""

from collections.abc import Iterable

import msgspec

from appliance.domain import DeployedModel, DeployedModelState, Deployment
from appliance.errors import Code, HearthError
from appliance.names import ID_LENGTH_MAX, generate_id, parse_name
from appliance.store import deployed_models, models
from appliance.store.database import Connection, Transaction

ACTIVE = (DeployedModelState.DEPLOYING, DeployedModelState.DEPLOYED)
"""Those that a request can reach."""


async def deploy(tx: Transaction, deployment: Deployment) -> None:
    """Its base model appears on it; the first deployment of a model is where the model's plain name leads."""
    await add(
        tx,
        DeployedModel(
            account_id=deployment.account_id,
            id=deployed_model_id(parse_name(deployment.base_model, "models", "model").resource_id),
            model=deployment.base_model,
            deployment=deployment.name,
            is_default=False,
            state=DeployedModelState.DEPLOYING,
            created_at=tx.now,
            updated_at=tx.now,
        ),
    )


def deployed_model_id(model_id: str) -> str:
    """The model's, with something that tells its places apart."""
    suffix = generate_id(8)
    return f"{model_id[: ID_LENGTH_MAX - len(suffix) - 1].rstrip('-')}-{suffix}"


async def add(tx: Transaction, deployed: DeployedModel) -> DeployedModel:
    """It is the default if it says so, or if there is none yet."""
    current = await _default_of(tx.connection, deployed.account_id, deployed.model)
    if current is not None and deployed.is_default:
        await _change(tx, current, is_default=False)
    added = msgspec.structs.replace(deployed, is_default=deployed.is_default or current is None)
    await deployed_models.insert(tx, added)
    return added


async def make_default(tx: Transaction, deployed: DeployedModel) -> DeployedModel:
    current = await _default_of(tx.connection, deployed.account_id, deployed.model)
    if current is not None:
        await _change(tx, current, is_default=False)
    return await _change(tx, deployed, is_default=True)


async def finish_deploying(tx: Transaction, deployment: Deployment) -> None:
    """The deployment serves, and so does its base model. When an addon does is for who loads it to say."""
    for deployed in await _list_active(tx.connection, deployment):
        if deployed.model == deployment.base_model and deployed.state is DeployedModelState.DEPLOYING:
            await _change(tx, deployed, state=DeployedModelState.DEPLOYED)


async def require_no_default(db: Connection, deployed: Iterable[DeployedModel], what: str) -> None:
    """A default leaves last, so that a plain name leads somewhere for as long as its model is deployed anywhere."""
    for each in deployed:
        others = [other for other in await _list_others(db, each) if other.deployment != each.deployment]
        if each.is_default and others:
            raise HearthError(
                Code.FAILED_PRECONDITION,
                f"{what} is where the plain name of {each.model} leads; delete its other deployed models first"
                f" ({', '.join(other.name for other in others[:3])}), or make one of them the default",
            )


async def require_no_default_on(db: Connection, deployment: Deployment) -> None:
    await require_no_default(db, await _list_active(db, deployment), deployment.name)


async def require_no_addons_on(db: Connection, deployment: Deployment) -> None:
    """Before the deployment takes none any more."""
    addons = [each.name for each in await _list_active(db, deployment) if each.model != deployment.base_model]
    if addons:
        named = ", ".join(addons[:3])
        message = f"enableAddons: addons are deployed on {deployment.name}; undeploy them first ({named})"
        raise HearthError(Code.FAILED_PRECONDITION, message, "enableAddons")


async def undeploy(tx: Transaction, deployment: Deployment) -> None:
    """All that it serves is leaving with it; the oldest other place of each of its models takes over the plain name."""
    for deployed in await deployed_models.list_of_deployment(tx.connection, deployment.name):
        if deployed.state in ACTIVE:
            await retire(tx, deployed)
        else:
            await deployed_models.delete(tx, deployed.account_id, deployed.id)  # it was leaving by itself before


async def retire(tx: Transaction, deployed: DeployedModel) -> DeployedModel:
    """No request reaches it from now on."""
    leaving = await _change(
        tx, deployed, state=DeployedModelState.UNDEPLOYING, is_default=False, has_failed=False, status_message=""
    )
    heir = next(iter(await _list_others(tx.connection, deployed)), None)
    if deployed.is_default and heir is not None:
        await _change(tx, heir, is_default=True)
    return leaving


async def bury(tx: Transaction, deployment: Deployment) -> None:
    """The deployment is DELETED: what left with it becomes invisible, and is kept for as long as the deployment is."""
    for deployed in await deployed_models.list_of_deployment(tx.connection, deployment.name):
        await _change(tx, deployed, state=DeployedModelState.DELETED, is_default=False)


async def restore(tx: Transaction, deployment: Deployment) -> None:
    """The deployment is undeleted: what it served comes back, as the default where there is no other by now.

    An addon whose model was deleted in the meantime does not.
    """
    for deployed in await deployed_models.list_of_deployment(tx.connection, deployment.name):
        model = parse_name(deployed.model, "models", "model")
        if await models.get(tx.connection, model.account_id, model.resource_id) is None:
            await deployed_models.delete(tx, deployed.account_id, deployed.id)
        elif deployed.state not in ACTIVE:
            current = await _default_of(tx.connection, deployed.account_id, deployed.model)
            await _change(tx, deployed, state=DeployedModelState.DEPLOYING, is_default=current is None)


async def _default_of(db: Connection, account_id: str, model_name: str) -> DeployedModel | None:
    listed = await deployed_models.list_of_model(db, account_id, model_name)
    return next((deployed for deployed in listed if deployed.is_default), None)


async def _list_others(db: Connection, deployed: DeployedModel) -> list[DeployedModel]:
    """Where else the account serves the same model, oldest first."""
    listed = await deployed_models.list_of_model(db, deployed.account_id, deployed.model)
    return [other for other in listed if other.id != deployed.id and other.state in ACTIVE]


async def _list_active(db: Connection, deployment: Deployment) -> list[DeployedModel]:
    listed = await deployed_models.list_of_deployment(db, deployment.name)
    return [deployed for deployed in listed if deployed.state in ACTIVE]


async def _change(tx: Transaction, deployed: DeployedModel, **changes: object) -> DeployedModel:
    changed = msgspec.structs.replace(deployed, updated_at=tx.now, **changes)
    await deployed_models.update(tx, changed)
    return changed
