"""From the `model` field of a request to the deployment that serves it. Reads only; what is out of sight is absent."""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.config import IdentitySettings
from appliance.domain import DeployedModelState, Deployment, DeploymentState, Model, Principal
from appliance.names import ResourceName, parse_name
from appliance.services.access import can_see_account, can_see_model
from appliance.services.model_field import parse_model_field
from appliance.store import deployed_models, deployments, models
from appliance.store.database import Connection

LEAVING = (DeploymentState.DELETING, DeploymentState.DELETED)


class Target(NamedTuple):
    """Where a request goes."""

    deployment: Deployment
    model: Model


async def find_target(
    db: Connection, principal: Principal, model_field: str, settings: IdentitySettings
) -> Target | None:
    field = parse_model_field(model_field, principal.account_id, settings.library_account_id)
    if field is None:
        return None
    if field.deployed_model is not None:
        return await _find_deployed_model(db, principal, field.deployed_model, settings)
    if field.deployment is not None:
        return await _find_deployment(db, principal, field.deployment, field.models, settings)
    for name in field.models:
        target = await _find_default(db, principal, name, settings)
        if target is not None:
            return target
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


async def _find_deployment(
    db: Connection,
    principal: Principal,
    name: ResourceName,
    wanted: Sequence[ResourceName],
    settings: IdentitySettings,
) -> Target | None:
    """A deployment by its own name; `wanted`, unless empty, says which models the caller believes it to serve."""
    deployment = await find_deployment(db, principal, name, settings)
    if deployment is None or deployment.state in LEAVING:
        return None
    if wanted and deployment.base_model not in map(str, wanted):
        return None
    model_name = parse_name(deployment.base_model, "models", "model")
    model = await models.get(db, model_name.account_id, model_name.resource_id)
    return None if model is None else Target(deployment, model)


async def _find_deployed_model(
    db: Connection, principal: Principal, name: ResourceName, settings: IdentitySettings
) -> Target | None:
    deployed = await deployed_models.get(db, name.account_id, name.resource_id)
    if deployed is None or deployed.state is DeployedModelState.UNDEPLOYING:
        return None
    deployment_name = parse_name(deployed.deployment, "deployments", "model")
    return await _find_deployment(db, principal, deployment_name, [], settings)


async def _find_default(
    db: Connection, principal: Principal, name: ResourceName, settings: IdentitySettings
) -> Target | None:
    """Where a plain model name leads: one's own deployment of it before the library's."""
    if await find_model(db, principal, name, settings) is None:
        return None
    for account_id in (principal.account_id, settings.library_account_id):
        for deployed in await deployed_models.list_of_model(db, account_id, str(name)):
            if deployed.is_default and deployed.state is not DeployedModelState.UNDEPLOYING:
                deployment_name = parse_name(deployed.deployment, "deployments", "model")
                return await _find_deployment(db, principal, deployment_name, [name], settings)
    return None
