"""Deployments: what is desired of them, which state they are in, and which one the `model` field of a request means.

The only writer of a deployment's state and of deployed models. Starts and stops nothing: it changes the desired
state, tells the supervisor to look, and takes in what the supervisor observed.
"""

import builtins
from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec

from appliance.config import IdentitySettings
from appliance.domain import Deployment, DeploymentState, Model, Principal
from appliance.errors import Code, HearthError
from appliance.names import ResourceName, generate_id, validate_id
from appliance.orchestrator.supervisor import ReplicaCounts
from appliance.services.access import not_found, require_account, require_change
from appliance.services.deployed_models import deploy, finish_deploying, undeploy
from appliance.services.deployment_spec import DeploymentSpec as DeploymentSpec  # what `create` takes
from appliance.services.deployment_spec import check_draft_model, check_model, check_spec, new_deployment
from appliance.services.model_field import parse_model
from appliance.services.targets import LEAVING, find_deployment, find_model, find_target
from appliance.services.targets import Target as Target  # what `resolve` gives
from appliance.store import deployed_models, deployments
from appliance.store.database import Connection, Database, Transaction


class Box(NamedTuple):
    """What deployments must know of the machine."""

    accelerator_types: Collection[str]
    replica_count_max: int
    """Of one deployment."""
    notify: Callable[[], None]
    """Tells the supervisor to look at the store now."""
    num_in_flight: Callable[[str, str], int]
    """Requests that a deployment (account id, id) is answering at this moment."""


def next_state(current: DeploymentState, observed: ReplicaCounts) -> DeploymentState:
    """The table of transitions that observation brings; DELETING begins with `Deployments.delete` alone."""
    match current:
        case DeploymentState.DELETED:
            return DeploymentState.DELETED
        case DeploymentState.DELETING:
            return DeploymentState.DELETING if any(observed) else DeploymentState.DELETED
        case DeploymentState.CREATING | DeploymentState.READY | DeploymentState.FAILED:
            if observed.ready or not observed.wanted:
                return DeploymentState.READY
            if observed.failed == observed.wanted:
                return DeploymentState.FAILED
            # Without a ready replica: READY stays, it wakes or recovers; FAILED tries anew, like a new one.
            return DeploymentState.READY if current is DeploymentState.READY else DeploymentState.CREATING


class Deployments:
    def __init__(self, database: Database, settings: IdentitySettings, box: Box, purge_s: float) -> None:
        self._database = database
        self._settings = settings
        self._box = box
        self._purge_s = purge_s

    async def create(
        self,
        principal: Principal,
        account_id: str,
        deployment_id: str | None,
        spec: DeploymentSpec,
        *,
        disable_auto_deploy: bool,
        validate_only: bool,
    ) -> Deployment:
        """Returns at once; the supervisor brings its replicas up. `validate_only` checks all and changes nothing."""
        require_account(principal, account_id, self._settings)
        deployment_id = generate_id() if deployment_id is None else validate_id(deployment_id, "deploymentId")
        name = ResourceName(account_id, "deployments", deployment_id)
        require_change(principal, account_id, str(name), self._settings)
        check_spec(spec, self._box.accelerator_types, self._box.replica_count_max)
        async with self._database.transaction() as tx:
            _require_free(await deployments.get(tx.connection, account_id, deployment_id))
            model = await self._find_model(tx.connection, principal, spec.base_model, "baseModel")
            check_model(spec, model)
            draft = None
            if spec.draft_model is not None:
                draft = await self._find_model(tx.connection, principal, spec.draft_model, "draftModel")
                check_draft_model(spec, model, draft)
            deployment = new_deployment(name, spec, model, principal.user_id, tx.now, draft)
            if validate_only:
                return deployment
            await deployments.insert(tx, deployment)
            if not disable_auto_deploy:
                await deploy(tx, deployment)
        self._box.notify()
        return deployment

    async def get(self, principal: Principal, account_id: str, deployment_id: str) -> Deployment:
        """Not those already DELETED."""
        name = ResourceName(account_id, "deployments", deployment_id)
        async with self._database.reader() as db:
            deployment = await find_deployment(db, principal, name, self._settings)
        if deployment is None or deployment.state is DeploymentState.DELETED:
            raise not_found(str(name))
        return deployment

    async def list(self, principal: Principal, account_id: str, show_deleted: bool) -> builtins.list[Deployment]:
        require_account(principal, account_id, self._settings)
        async with self._database.reader() as db:
            return await deployments.list_in_account(db, account_id, show_deleted)

    async def scale(self, principal: Principal, account_id: str, deployment_id: str, replica_count: int) -> Deployment:
        """Between 0 and the maximum: the minimum binds what the appliance does by itself, not who asks for less."""
        deployment = await self._get_to_change(principal, account_id, deployment_id)
        async with self._database.transaction() as tx:
            current = await _find_serving(tx, deployment)
            if current is None:
                raise HearthError(Code.FAILED_PRECONDITION, f"{deployment.name} is being deleted")
            if not 0 <= replica_count <= current.max_replica_count:
                raise HearthError(
                    Code.INVALID,
                    f"replicaCount: {replica_count} is not between 0 and"
                    f" the deployment's maxReplicaCount {current.max_replica_count}",
                    "replicaCount",
                )
            changed = await _desire(tx, current, replica_count)
        self._box.notify()
        return changed

    async def delete(
        self, principal: Principal, account_id: str, deployment_id: str, *, hard: bool, ignore_checks: bool
    ) -> None:
        """Returns at once, DELETING; DELETED when the last replica is gone. `hard` then forgets it.

        Refused while it answers requests, unless `ignore_checks`. A DELETED one can only be deleted hard.
        """
        deployment = await self._get_to_change(principal, account_id, deployment_id)
        num_in_flight = self._box.num_in_flight(account_id, deployment_id)
        if num_in_flight and not ignore_checks:
            raise HearthError(
                Code.FAILED_PRECONDITION,
                f"{deployment.name} is answering {num_in_flight} requests; ignoreChecks=true deletes it all the same",
            )
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, account_id, deployment_id)
            if current is None or (current.state is DeploymentState.DELETED and not hard):
                raise not_found(deployment.name)
            if current.state is DeploymentState.DELETED:
                await deployments.delete(tx, account_id, deployment_id)
                return
            await undeploy(tx, current)
            await deployments.update(
                tx,
                msgspec.structs.replace(
                    current,
                    state=DeploymentState.DELETING,
                    desired_replica_count=0,
                    updated_at=tx.now,
                    deleted_at=tx.now,
                    purge_at=tx.now if hard else tx.now + self._purge_s,
                ),
            )
        self._box.notify()

    async def resolve(self, principal: Principal, model_field: str) -> Target:
        """The deployment that a request means; raises `not_found` for all that it cannot reach, for whatever reason."""
        async with self._database.reader() as db:
            target = await find_target(db, principal, model_field, self._settings)
        if target is None:
            raise _not_deployed()
        return target

    async def wake(self, deployment: Deployment) -> None:
        """Give a deployment at zero replicas one, because a request came."""
        async with self._database.transaction() as tx:
            current = await _find_serving(tx, deployment)
            if current is None:
                raise _not_deployed()
            if current.max_replica_count == 0:
                raise HearthError(
                    Code.UNAVAILABLE,
                    f"{deployment.name} is held at zero replicas: its maxReplicaCount is 0",
                    reason="DEPLOYMENT_SCALED_TO_ZERO",
                )
            if current.desired_replica_count == 0:
                await _desire(tx, current, 1)
        self._box.notify()

    async def observe(self, deployment: Deployment, observed: ReplicaCounts, message: str) -> None:
        """Take in what the supervisor sees of `deployment`; writes only what is new."""
        if (next_state(deployment.state, observed), message) == (deployment.state, deployment.status_message):
            return
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, deployment.account_id, deployment.id)
            # Seen before the last change of what is desired: the supervisor will look again and say so.
            if current is None or current.desired_replica_count != observed.wanted:
                return
            state = next_state(current.state, observed)
            # Its updated_at stays: that is when somebody changed what is asked of it.
            changed = msgspec.structs.replace(current, state=state, status_message=message)
            await deployments.update(tx, changed)
            if state is DeploymentState.READY:
                await finish_deploying(tx, changed)
            elif state is DeploymentState.DELETED:
                await deployed_models.delete_of_deployment(tx, changed.name)
                await deployments.purge(tx)

    async def purge(self) -> None:
        """Forget deployments whose time to be undeleted is over."""
        async with self._database.transaction() as tx:
            await deployments.purge(tx)

    async def _find_model(self, db: Connection, principal: Principal, model_name: str, param: str) -> Model:
        for name in parse_model(model_name, principal.account_id, self._settings.library_account_id):
            model = await find_model(db, principal, name, self._settings)
            if model is not None:
                return model
        raise not_found(f"{param}: {model_name!r}", param)

    async def _get_to_change(self, principal: Principal, account_id: str, deployment_id: str) -> Deployment:
        """In any state, the deleted ones too."""
        name = ResourceName(account_id, "deployments", deployment_id)
        async with self._database.reader() as db:
            deployment = await find_deployment(db, principal, name, self._settings)
        if deployment is None:
            raise not_found(str(name))
        require_change(principal, account_id, deployment.name, self._settings, deployment.created_by)
        return deployment


def _require_free(present: Deployment | None) -> None:
    if present is None:
        return
    if present.state is DeploymentState.DELETED:
        message = f"{present.name} was deleted and keeps its name until it is purged; delete it with hard=true"
    else:
        message = f"{present.name} already exists"
    raise HearthError(Code.CONFLICT, message, "deploymentId")


async def _find_serving(tx: Transaction, deployment: Deployment) -> Deployment | None:
    """As it is now; None when it is being deleted."""
    current = await deployments.get(tx.connection, deployment.account_id, deployment.id)
    return None if current is None or current.state in LEAVING else current


async def _desire(tx: Transaction, deployment: Deployment, replica_count: int) -> Deployment:
    changed = msgspec.structs.replace(deployment, desired_replica_count=replica_count, updated_at=tx.now)
    await deployments.update(tx, changed)
    return changed


def _not_deployed() -> HearthError:
    """The wording is documented, and clients match on it."""
    return HearthError(Code.NOT_FOUND, "Model not found, inaccessible, and/or not deployed", "model")
