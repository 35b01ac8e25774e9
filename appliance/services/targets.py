"""From the `model` field of a request to the deployment that serves it. Reads only; what is out of sight is absent."""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.config import IdentitySettings
from appliance.domain import DeployedModel, Deployment, DeploymentState, Model, ModelState, Principal
from appliance.names import ResourceName, parse_name
from appliance.services.access import can_see_account, can_see_model
from appliance.services.model_field import ModelField, parse_model_field
from appliance.services.serving import ACTIVE
from appliance.store import deployed_models, deployments, models
from appliance.store.database import Connection
from models.info import AnyServedInfo

LEAVING = (DeploymentState.DELETING, DeploymentState.DELETED)


class Target(NamedTuple):
    """Where a request goes."""

    deployment: Deployment
    model: Model
    """The base model: what it can do bounds the request, whichever addon answers."""
    adapter: str = ""
    """Name of the deployed addon, by which workers know it; empty: the base model answers."""


class Askable(NamedTuple):
    """A model that a request can name."""

    model: Model
    info: AnyServedInfo | None
    """Of the base model that answers."""


async def find_target(
    db: Connection, principal: Principal, model_field: str, settings: IdentitySettings
) -> Target | None:
    field = parse_model_field(model_field, principal.account_id, settings.library_account_id)
    if field is None:
        return None
    if field.deployed_model is not None:
        return await _find_deployed_model(db, principal, field.deployed_model, settings)
    if field.deployment is not None:
        return await _find_on_deployment(db, principal, field.deployment, field.models, settings)
    for name in field.models:
        target = await _find_default(db, principal, name, settings)
        if target is not None:
            return target
    return None


async def find_serverless(
    db: Connection, principal: Principal, model_field: str, settings: IdentitySettings
) -> Model | None:
    """The library's model that the appliance would deploy by itself for a request that has no target.

    It is meant by its name, and by the name of the deployment that it will have.
    """
    library = settings.library_account_id
    field = parse_model_field(model_field, principal.account_id, library) or ModelField()
    wanted = [name for name in field.models if name.account_id == library]
    if field.deployment is not None:
        deployed = ResourceName(field.deployment.account_id, "models", field.deployment.resource_id)
        wanted = [deployed] if deployed.account_id == library and (not field.models or deployed in wanted) else []
    for name in wanted:
        model = await models.get(db, name.account_id, name.resource_id)
        if model is not None and model.is_serverless and model.state is ModelState.READY:
            return model
    return None


async def find_model(
    db: Connection, principal: Principal, name: ResourceName, settings: IdentitySettings
) -> Model | None:
    model = await models.get(db, name.account_id, name.resource_id)
    return model if model is not None and can_see_model(principal, model, settings) else None


async def find_deployment(
    db: Connection, principal: Principal, name: ResourceName, settings: IdentitySettings
) -> Deployment | None:
    """Of one's own account or the library, in any state."""
    if not can_see_account(principal, name.account_id, settings):
        return None
    return await deployments.get(db, name.account_id, name.resource_id)


async def find_askable(
    db: Connection, principal: Principal, model: Model, settings: IdentitySettings
) -> Askable | None:
    """None: its plain name leads nowhere."""
    target = await find_target(db, principal, model.name, settings)
    if target is not None:
        return Askable(model, target.model.served_info)
    return Askable(model, model.served_info) if model.is_serverless and model.state is ModelState.READY else None


async def _find_on_deployment(
    db: Connection,
    principal: Principal,
    name: ResourceName,
    wanted: Sequence[ResourceName],
    settings: IdentitySettings,
) -> Target | None:
    """A deployment by its own name: its base model, unless another of its models is `wanted`."""
    deployment = await deployments.get(db, name.account_id, name.resource_id)
    if deployment is None:
        return None
    names = [str(each) for each in wanted] or [deployment.base_model]
    for deployed in await deployed_models.list_of_deployment(db, deployment.name):
        if deployed.model in names and _can_ask(principal, deployed, settings):
            return await _target(db, deployment, deployed)
    if deployment.base_model in names and can_see_account(principal, deployment.account_id, settings):
        return await _target(db, deployment, None)
    return None


async def _find_deployed_model(
    db: Connection, principal: Principal, name: ResourceName, settings: IdentitySettings
) -> Target | None:
    deployed = await deployed_models.get(db, name.account_id, name.resource_id)
    return None if deployed is None else await _reach(db, principal, deployed, settings)


async def _find_default(
    db: Connection, principal: Principal, name: ResourceName, settings: IdentitySettings
) -> Target | None:
    """Where a plain model name leads: one's own place, then the library's, then a public one of the model's account.

    A model that is out of sight can be asked where its account made its place public, and nowhere else.
    """
    places = [name.account_id]
    if await find_model(db, principal, name, settings) is not None:
        places = [principal.account_id, settings.library_account_id, name.account_id]
    for account_id in dict.fromkeys(places):
        for deployed in await deployed_models.list_of_model(db, account_id, str(name)):
            if deployed.is_default:
                target = await _reach(db, principal, deployed, settings)
                if target is not None:
                    return target
    return None


async def _reach(
    db: Connection, principal: Principal, deployed: DeployedModel, settings: IdentitySettings
) -> Target | None:
    if not _can_ask(principal, deployed, settings):
        return None
    name = parse_name(deployed.deployment, "deployments", "model")
    deployment = await deployments.get(db, name.account_id, name.resource_id)
    return None if deployment is None else await _target(db, deployment, deployed)


def _can_ask(principal: Principal, deployed: DeployedModel, settings: IdentitySettings) -> bool:
    is_near = can_see_account(principal, deployed.account_id, settings)
    return deployed.state in ACTIVE and (is_near or deployed.is_public)


async def _target(db: Connection, deployment: Deployment, deployed: DeployedModel | None) -> Target | None:
    """`deployed` None: its base model, which is not deployed as such."""
    name = parse_name(deployment.base_model, "models", "model")
    model = await models.get(db, name.account_id, name.resource_id)
    if model is None or deployment.state in LEAVING:
        return None
    if deployed is None or deployed.model == deployment.base_model:
        return Target(deployment, model)
    return Target(deployment, model, adapter=deployed.name)
