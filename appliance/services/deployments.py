"""Deployments: what is desired of them, which state they are in, and which one the `model` field of a request means.

The only writer of a deployment's state. Starts and stops nothing: it changes the desired state, tells the supervisor
to look, and takes in what the supervisor observed.
"""

import builtins
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from appliance.config import Config
from appliance.domain import Deployment, DeploymentState, Principal, ScalingDecision
from appliance.errors import Code, HearthError
from appliance.names import ResourceName, generate_id, validate_id
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.group import ReplicaCounts
from appliance.services import audit
from appliance.services.access import not_found, require_account, require_change
from appliance.services.deployment_models import models_of_change, models_of_new, with_default_draft
from appliance.services.deployment_sightings import note_sighting
from appliance.services.deployment_spec import DeploymentSpec as DeploymentSpec  # what `create` and `update` take
from appliance.services.deployment_spec import (
    changed_fields,
    check_expiry,
    check_revision,
    check_spec,
    new_deployment,
    revised_deployment,
    revised_spec,
    spec_of,
)
from appliance.services.deployment_state import (
    needs_new_workers,
    next_state,
    replica_count_after_change,
    state_after_change,
)
from appliance.services.desired_replicas import desire
from appliance.services.levels import require_device_time
from appliance.services.quotas import QuotaMetric, require_room
from appliance.services.retirement import bring_back, forget, retire
from appliance.services.serverless import deploy_for_request
from appliance.services.serving import deploy, require_no_addons_on, require_no_default_on
from appliance.services.shaping import TAKEN_OVER, take_over_shape
from appliance.services.targets import LEAVING, find_deployment, find_target
from appliance.services.targets import Target as Target  # what `resolve` gives
from appliance.store import deployments, scaling_decisions
from appliance.store.database import Database, Transaction


class Box(NamedTuple):
    """What deployments must know of the machine."""

    devices: Sequence[Device]
    notify: Callable[[], None]
    """Tells the supervisor to look at the store now."""
    num_in_flight: Callable[[str, str], int]
    """Requests that a deployment (account id, id) is answering at this moment."""


class Deployments:
    def __init__(self, database: Database, config: Config, box: Box) -> None:
        self._database = database
        self._settings = config.identity
        self._fleet = config.fleet
        self._purge_s = config.deployment_purge_s
        self._box = box

    async def create(
        self,
        principal: Principal,
        account_id: str,
        deployment_id: str | None,
        spec: DeploymentSpec,
        *,
        disable_auto_deploy: bool,
        validate_only: bool,
        skips_shape_check: bool = False,
        takes_default_draft: bool = True,
    ) -> Deployment:
        """Returns at once; the supervisor brings its replicas up. `validate_only` checks all and changes nothing."""
        require_account(principal, account_id, self._settings)
        deployment_id = generate_id() if deployment_id is None else validate_id(deployment_id, "deploymentId")
        name = ResourceName(account_id, "deployments", deployment_id)
        require_change(principal, account_id, str(name), self._settings)
        spec = await self._shaped(principal, spec, skips_shape_check)
        check_spec(spec, self._box.devices, self._fleet)
        async with self._database.transaction() as tx:
            check_expiry(spec.expires_at, tx.now)
            _require_free(await deployments.get(tx.connection, account_id, deployment_id))
            if takes_default_draft:
                spec = await with_default_draft(tx.connection, principal, spec, self._settings)
            named = await models_of_new(tx.connection, principal, spec, self._settings)
            deployment = new_deployment(
                name,
                spec,
                named.base,
                named.draft,
                created_by=principal.user_id,
                now=tx.now,
            )
            await require_room(tx, account_id, QuotaMetric.REPLICAS, deployment.max_replica_count)
            if deployment.desired_replica_count:
                await require_device_time(tx, account_id)
            if validate_only:
                return deployment
            await deployments.insert(tx, deployment)
            await audit.record(tx, principal, deployment.name, changed_fields(DeploymentSpec(base_model=""), spec))
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

    async def history(self, deployment: Deployment) -> builtins.list[ScalingDecision]:
        """Why it had how many replicas, the newest first."""
        async with self._database.reader() as db:
            return await scaling_decisions.list_of_deployment(
                db, deployment.account_id, deployment.id, self._fleet.scaling_decisions_kept
            )

    async def update(
        self,
        principal: Principal,
        account_id: str,
        deployment_id: str,
        asked: DeploymentSpec,
        fields: Collection[str],
        *,
        validate_only: bool = False,
        skips_shape_check: bool = False,
    ) -> Deployment:
        """Take `fields` of `asked` over; replicas that cannot serve it so are replaced one by one."""
        deployment = await self._get_to_change(principal, account_id, deployment_id)
        if "shape" in fields and asked.shape != deployment.shape:
            shaped = await self._shaped(principal, replace(asked, base_model=deployment.base_model), skips_shape_check)
            asked = replace(shaped, base_model=asked.base_model)
            fields = {*fields, "shape_preset", *(TAKEN_OVER if asked.shape else ())}
        async with self._database.transaction() as tx:
            current = await _get_serving(tx, deployment)
            spec = revised_spec(current, asked, fields)
            check_revision(spec_of(current), spec, self._box.devices, self._fleet)
            if spec.expires_at != current.expires_at:
                check_expiry(spec.expires_at, tx.now)
            if not spec.enable_addons:
                await require_no_addons_on(tx.connection, current)
            named = await models_of_change(tx.connection, principal, current, spec, self._settings)
            changed = revised_deployment(current, spec, named.draft, tx.now)
            is_new_revision = needs_new_workers(current, changed)
            changed = replace(
                changed,
                revision=current.revision + is_new_revision,
                state=state_after_change(changed, is_new_revision),
            )
            num_more = changed.max_replica_count - current.max_replica_count
            await require_room(tx, account_id, QuotaMetric.REPLICAS, num_more)
            if validate_only:
                return changed
            await deployments.update(tx, changed)
            await audit.record(tx, principal, changed.name, changed_fields(spec_of(current), spec))
            count = replica_count_after_change(changed)
            reason = f"between {changed.min_replica_count} and {changed.max_replica_count} replicas are asked for"
            changed = await self._desire(tx, changed, count, reason)
        self._box.notify()
        return changed

    async def scale(self, principal: Principal, account_id: str, deployment_id: str, replica_count: int) -> Deployment:
        """Between 0 and the maximum: the minimum binds what the appliance does by itself, not who asks for less."""
        deployment = await self._get_to_change(principal, account_id, deployment_id)
        async with self._database.transaction() as tx:
            current = await _get_serving(tx, deployment)
            if not 0 <= replica_count <= current.max_replica_count:
                raise HearthError(
                    Code.INVALID,
                    f"replicaCount: {replica_count} is not between 0 and"
                    f" the deployment's maxReplicaCount {current.max_replica_count}",
                    "replicaCount",
                )
            if replica_count > current.desired_replica_count:
                await require_device_time(tx, account_id)
            # Also when the count is what it was: somebody touched it, so it is in use.
            current = replace(current, updated_at=tx.now)
            await deployments.update(tx, current)
            await audit.record(tx, principal, current.name, ["replicaCount"])
            changed = await self._desire(tx, current, replica_count, "asked for by :scale")
        self._box.notify()
        return changed

    async def delete(
        self, principal: Principal, account_id: str, deployment_id: str, *, hard: bool, ignore_checks: bool
    ) -> None:
        """Returns at once, DELETING; DELETED when the last replica is gone. `hard` then forgets it.

        Refused while it answers requests, or is the default of a model deployed elsewhere too, unless `ignore_checks`.
        A DELETED one can only be deleted hard.
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
            await audit.record(tx, principal, current.name, ["hard"] if hard else [])
            if current.state is DeploymentState.DELETED:
                await forget(tx, current)
                return
            if not ignore_checks:
                await require_no_default_on(tx.connection, current)
            purge_s = 0.0 if hard else self._purge_s
            await retire(tx, current, "deleted", purge_s=purge_s, keep=self._fleet.scaling_decisions_kept)
        self._box.notify()

    async def undelete(self, principal: Principal, account_id: str, deployment_id: str) -> Deployment:
        """Until it is purged."""
        deployment = await self._get_to_change(principal, account_id, deployment_id)
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, account_id, deployment_id)
            if current is None or (current.state in LEAVING and (current.purge_at or 0.0) <= tx.now):
                raise not_found(deployment.name)
            if current.state not in LEAVING:
                raise HearthError(Code.FAILED_PRECONDITION, f"{current.name} is not deleted: it is {current.state}")
            await require_room(tx, account_id, QuotaMetric.REPLICAS, current.max_replica_count)
            restored = await bring_back(tx, current, self._fleet.scaling_decisions_kept)
            await audit.record(tx, principal, restored.name)
        self._box.notify()
        return restored

    async def resolve(self, principal: Principal, model_field: str) -> Target:
        """The deployment that a request means; raises `not_found` for all that it cannot reach, for whatever reason."""
        async with self._database.reader() as db:
            target = await find_target(db, principal, model_field, self._settings)
        if target is None:
            target = await deploy_for_request(self._database, principal, model_field, self._settings)
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
                await self._desire(tx, current, 1, "a request came")
        self._box.notify()

    # ---- for the supervisor

    async def observe(
        self, deployment: Deployment, observed: ReplicaCounts, message: str, termination_message: str = ""
    ) -> None:
        """Take in what the supervisor sees of `deployment`; writes only what is new."""
        if (next_state(deployment.state, observed), message) == (deployment.state, deployment.status_message):
            return
        async with self._database.transaction() as tx:
            await note_sighting(tx, deployment, observed, message, termination_message)

    async def evict(self, deployment: Deployment, to_count: int, reason: str) -> None:
        """Lower what is desired, to make room for others; never below its minimum, and never of a pinned one."""
        async with self._database.transaction() as tx:
            current = await _find_serving(tx, deployment)
            if current is None or current.is_pinned:
                return
            count = max(to_count, current.min_replica_count)
            if count < current.desired_replica_count:
                await self._desire(tx, current, count, reason)
                await audit.record_own_act(tx, "EvictDeployment", current.name, reason)
        self._box.notify()

    async def _desire(self, tx: Transaction, deployment: Deployment, count: int, reason: str) -> Deployment:
        return await desire(tx, deployment, count, reason, self._fleet.scaling_decisions_kept)

    async def _shaped(self, principal: Principal, spec: DeploymentSpec, skips_check: bool) -> DeploymentSpec:
        async with self._database.reader() as db:
            return await take_over_shape(db, principal, spec, self._settings, skips_check=skips_check)

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
        message = f"{present.name} was deleted and keeps its name until it is purged; undelete it, or delete it hard"
    else:
        message = f"{present.name} already exists"
    raise HearthError(Code.CONFLICT, message, "deploymentId")


async def _find_serving(tx: Transaction, deployment: Deployment) -> Deployment | None:
    """As it is now; None when it is being deleted."""
    current = await deployments.get(tx.connection, deployment.account_id, deployment.id)
    return None if current is None or current.state in LEAVING else current


async def _get_serving(tx: Transaction, deployment: Deployment) -> Deployment:
    current = await _find_serving(tx, deployment)
    if current is None:
        raise HearthError(Code.FAILED_PRECONDITION, f"{deployment.name} is being deleted")
    return current


def _not_deployed() -> HearthError:
    """The wording is documented, and clients match on it."""
    return HearthError(Code.NOT_FOUND, "Model not found, inaccessible, and/or not deployed", "model")
