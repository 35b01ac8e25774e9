"""Deployed models: which models are served where, and which of several places a plain name leads to.

Deploying writes a row and has the adapters looked after; what became of that comes back as an observation. Who may
change a deployed model is who may change its deployment.
"""

import builtins
from collections.abc import Callable

import msgspec

from appliance.config import FleetSettings, IdentitySettings
from appliance.domain import (
    DeployedModel,
    DeployedModelState,
    Deployment,
    DeploymentState,
    Model,
    ModelKind,
    ModelState,
    Principal,
)
from appliance.errors import Code, HearthError
from appliance.names import parse_name
from appliance.services import audit
from appliance.services.access import can_see_account, not_found, require_account, require_change
from appliance.services.deployment_models import find_named_model
from appliance.services.model_field import parse_deployment
from appliance.services.serving import ACTIVE, add, deployed_model_id, make_default, require_no_default
from appliance.services.serving import retire as retire_deployed
from appliance.services.targets import LEAVING
from appliance.store import deployed_models, deployments
from appliance.store.database import Connection, Database, Transaction

DISPLAY_NAME_LENGTH_MAX = 63
DESCRIPTION_LENGTH_MAX = 1000
SERVING = (DeploymentState.READY, DeploymentState.UPDATING)


WIRE_NAMES = {"display_name": "displayName", "is_default": "default", "is_public": "public"}


class DeployedModelSpec(msgspec.Struct, frozen=True, kw_only=True, rename=WIRE_NAMES):
    """What somebody asks of a deployed model; None leaves the choice to us, or as it is."""

    model: str | None = None
    deployment: str | None = None
    """None, for a new one: the only one of the account that can take the model."""
    display_name: str | None = None
    description: str | None = None
    is_default: bool | None = None
    is_public: bool | None = None


class DeployedModels:
    def __init__(
        self, database: Database, identity: IdentitySettings, fleet: FleetSettings, notify: Callable[[], None]
    ) -> None:
        """`notify` has the adapters looked after now."""
        self._database = database
        self._settings = identity
        self._fleet = fleet
        self._notify = notify

    async def create(self, principal: Principal, account_id: str, spec: DeployedModelSpec) -> DeployedModel:
        """Returns at once, DEPLOYING; the addon is loaded into the deployment's replicas."""
        require_account(principal, account_id, self._settings)
        check_texts(spec.display_name, spec.description)
        if spec.model is None:
            raise HearthError(Code.INVALID, "model: say which model to deploy", "model")
        async with self._database.transaction() as tx:
            model = await find_named_model(tx.connection, principal, spec.model, "model", self._settings)
            deployment = await self._find_deployment(tx.connection, account_id, spec.deployment, model)
            require_change(principal, account_id, deployment.name, self._settings, deployment.created_by)
            await self._check(tx.connection, model, deployment)
            is_served = model.name == deployment.base_model and deployment.state in SERVING
            deployed = DeployedModel(
                account_id=account_id,
                id=deployed_model_id(model.id),
                model=model.name,
                deployment=deployment.name,
                is_default=spec.is_default or False,
                state=DeployedModelState.DEPLOYED if is_served else DeployedModelState.DEPLOYING,
                display_name=spec.display_name or "",
                description=spec.description or "",
                is_public=spec.is_public or False,
                created_at=tx.now,
                updated_at=tx.now,
            )
            deployed = await add(tx, deployed)
            await audit.record(tx, principal, deployed.name, audit.fields_given(spec))
        self._notify()
        return deployed

    async def get(self, principal: Principal, account_id: str, deployed_model_id: str) -> DeployedModel:
        """Own ones, the library's, and what others made public."""
        async with self._database.reader() as db:
            deployed = await deployed_models.get(db, account_id, deployed_model_id)
        if deployed is None or not self._can_see(principal, deployed):
            raise not_found(f"accounts/{account_id}/deployedModels/{deployed_model_id}")
        return deployed

    async def list(self, principal: Principal, account_id: str) -> builtins.list[DeployedModel]:
        require_account(principal, account_id, self._settings)
        async with self._database.reader() as db:
            return await deployed_models.list_in_account(db, account_id)

    async def list_of_model(self, principal: Principal, model: Model) -> builtins.list[DeployedModel]:
        """Where the model is served, of every account, as far as the caller may know; defaults first."""
        async with self._database.reader() as db:
            found = await deployed_models.list_everywhere_of_model(db, model.name)
        visible = [deployed for deployed in found if self._can_see(principal, deployed)]
        return sorted(visible, key=lambda deployed: not deployed.is_default)

    async def update(
        self, principal: Principal, account_id: str, deployed_model_id: str, spec: DeployedModelSpec
    ) -> DeployedModel:
        """What it serves and where stays; the default moves by making another one the default."""
        async with self._database.transaction() as tx:
            deployed = await self._get_to_change(tx.connection, principal, account_id, deployed_model_id)
            check_unmoved(deployed, spec)
            changed = msgspec.structs.replace(
                deployed,
                display_name=deployed.display_name if spec.display_name is None else spec.display_name,
                description=deployed.description if spec.description is None else spec.description,
                is_public=deployed.is_public if spec.is_public is None else spec.is_public,
                updated_at=tx.now,
            )
            check_texts(changed.display_name, changed.description)
            await deployed_models.update(tx, changed)
            await audit.record(tx, principal, changed.name, audit.fields_given(spec))
            return await make_default(tx, changed) if spec.is_default else changed

    async def delete(self, principal: Principal, account_id: str, deployed_model_id: str) -> None:
        """No new request reaches it; an addon's row goes when no replica holds it any more."""
        async with self._database.transaction() as tx:
            deployed = await self._get_to_change(tx.connection, principal, account_id, deployed_model_id)
            await require_no_default(tx.connection, [deployed], deployed.name)
            await audit.record(tx, principal, deployed.name)
            await retire_deployed(tx, deployed)
            if not await _is_addon(tx, deployed):
                await deployed_models.delete(tx, account_id, deployed_model_id)
        self._notify()

    # ---- what who looks after the adapters observed

    async def observe(self, deployed: DeployedModel, is_loaded: bool, has_failed: bool, message: str) -> None:
        async with self._database.transaction() as tx:
            current = await deployed_models.get(tx.connection, deployed.account_id, deployed.id)
            if current is None or current.state not in ACTIVE:
                return
            state = DeployedModelState.DEPLOYED if is_loaded else current.state
            # Its updated_at stays: that is when somebody changed what is asked of it.
            await deployed_models.update(
                tx, msgspec.structs.replace(current, state=state, has_failed=has_failed, status_message=message)
            )

    async def forget(self, deployed: DeployedModel) -> None:
        """No replica holds it any more. What leaves with its deployment is kept, for that may be undeleted."""
        async with self._database.transaction() as tx:
            current = await deployed_models.get(tx.connection, deployed.account_id, deployed.id)
            if current is None or current.state is not DeployedModelState.UNDEPLOYING:
                return
            name = parse_name(current.deployment, "deployments", "deployment")
            deployment = await deployments.get(tx.connection, name.account_id, name.resource_id)
            if deployment is None or deployment.state not in LEAVING:
                await deployed_models.delete(tx, current.account_id, current.id)

    # ---- rules

    async def _check(self, db: Connection, model: Model, deployment: Deployment) -> None:
        if deployment.state in LEAVING:
            raise HearthError(Code.FAILED_PRECONDITION, f"deployment: {deployment.name} is being deleted", "deployment")
        if model.state is not ModelState.READY:
            raise HearthError(Code.FAILED_PRECONDITION, f"model: {model.name} is {model.state}", "model")
        present = [
            each for each in await deployed_models.list_of_deployment(db, deployment.name) if each.state in ACTIVE
        ]
        for each in present:
            if each.model == model.name:
                message = f"{model.name} is deployed on {deployment.name} already, as {each.name}"
                raise HearthError(Code.CONFLICT, message, "model")
        if model.kind.is_addon:
            num_addons = sum(each.model != deployment.base_model for each in present)
            check_addon(model, deployment, num_addons, self._fleet)
        elif model.name != deployment.base_model:
            message = f"deployment: {deployment.name} serves {deployment.base_model} and cannot serve {model.name}"
            raise HearthError(Code.INVALID, message, "deployment")

    async def _find_deployment(self, db: Connection, account_id: str, text: str | None, model: Model) -> Deployment:
        """Of this account; without a name the only one that can take the model."""
        if text is None:
            return await self._choose_deployment(db, account_id, model)
        name = parse_deployment(text, account_id)
        if name is not None and name.account_id == account_id:
            deployment = await deployments.get(db, name.account_id, name.resource_id)
            if deployment is not None and deployment.state is not DeploymentState.DELETED:
                return deployment
        raise not_found(f"deployment: {text[:200]!r}", "deployment")

    async def _choose_deployment(self, db: Connection, account_id: str, model: Model) -> Deployment:
        base_model = model.base_model or model.name
        suitable = [
            deployment
            for deployment in await deployments.list_in_account(db, account_id, include_deleted=False)
            if deployment.base_model == base_model
            and deployment.state not in LEAVING
            and (deployment.enable_addons or not model.kind.is_addon)
        ]
        if len(suitable) == 1:
            return suitable[0]
        what = f"{base_model}, with enableAddons" if model.kind.is_addon else base_model
        named = ", ".join(deployment.id for deployment in suitable)
        message = f"say which of {named}" if suitable else f"{account_id} has none of {what}; create one first"
        raise HearthError(Code.INVALID, f"deployment: {message}", "deployment")

    async def _get_to_change(
        self, db: Connection, principal: Principal, account_id: str, deployed_model_id: str
    ) -> DeployedModel:
        deployed = await deployed_models.get(db, account_id, deployed_model_id)
        if deployed is None or not self._can_see(principal, deployed):
            raise not_found(f"accounts/{account_id}/deployedModels/{deployed_model_id}")
        name = parse_name(deployed.deployment, "deployments", "deployment")
        deployment = await deployments.get(db, name.account_id, name.resource_id)
        created_by = "" if deployment is None else deployment.created_by
        require_change(principal, account_id, deployed.name, self._settings, created_by)
        if deployed.state not in ACTIVE:
            raise HearthError(Code.FAILED_PRECONDITION, f"{deployed.name} is {deployed.state}")
        return deployed

    def _can_see(self, principal: Principal, deployed: DeployedModel) -> bool:
        if deployed.state is DeployedModelState.DELETED:
            return False
        return deployed.is_public or can_see_account(principal, deployed.account_id, self._settings)


def check_addon(addon: Model, deployment: Deployment, num_addons: int, fleet: FleetSettings) -> None:
    """Whether the deployment, which serves so many addons now, can serve this one too."""
    assert addon.addon_info is not None, "it is READY"
    if not deployment.enable_addons:
        message = f"deployment: addons are not enabled on {deployment.name}; update it with enableAddons=true"
        raise HearthError(Code.FAILED_PRECONDITION, message, "deployment")
    if addon.base_model != deployment.base_model:
        message = f"deployment: {deployment.name} serves {deployment.base_model}, and {addon.name} changes"
        raise HearthError(Code.INVALID, f"{message} {addon.base_model}", "deployment")
    if addon.kind is ModelKind.HF_PEFT_ADDON and addon.addon_info.rank > fleet.addon_rank_max:
        message = f"model: {addon.name} has rank {addon.addon_info.rank}; at most {fleet.addon_rank_max} are served"
        raise HearthError(Code.INVALID, message, "model")
    if num_addons >= fleet.addons_max:
        message = f"deployment: {deployment.name} serves {num_addons} addons, the most that it may; undeploy one first"
        raise HearthError(Code.FAILED_PRECONDITION, message, "deployment")


def check_unmoved(deployed: DeployedModel, spec: DeployedModelSpec) -> None:
    """Clients send back what they have read."""
    for param, asked, current in (
        ("model", spec.model, deployed.model),
        ("deployment", spec.deployment, deployed.deployment),
    ):
        if asked not in (None, current):
            raise HearthError(Code.INVALID, f"{param}: it stays {current}; deploy another one instead", param)
    if spec.is_default is False and deployed.is_default:
        message = "default: the plain name has to lead somewhere; make another deployed model the default instead"
        raise HearthError(Code.INVALID, message, "default")


def check_texts(display_name: str | None, description: str | None) -> None:
    for param, text, length_max in (
        ("displayName", display_name, DISPLAY_NAME_LENGTH_MAX),
        ("description", description, DESCRIPTION_LENGTH_MAX),
    ):
        if text is not None and len(text) > length_max:
            raise HearthError(Code.INVALID, f"{param}: at most {length_max} characters, has {len(text)}", param)


async def _is_addon(tx: Transaction, deployed: DeployedModel) -> bool:
    """Whether there is something to unload."""
    name = parse_name(deployed.deployment, "deployments", "deployment")
    deployment = await deployments.get(tx.connection, name.account_id, name.resource_id)
    return deployment is not None and deployment.base_model != deployed.model
