"""Shapes that accounts make for themselves: options of a deployment under a name, version by version.

A change makes a new version; deployments keep the version that they were made with. The box's own presets are
`deployment_shapes.py`, and what a deployment takes over from a shape is `shaping.py`.
"""

import builtins
from collections.abc import Collection, Sequence

import msgspec

from appliance.config import Config
from appliance.domain import DeploymentShape, Precision, Principal, ShapePreset
from appliance.errors import Code, HearthError
from appliance.names import ResourceName, generate_id, validate_id
from appliance.orchestrator.gpus import Device
from appliance.services import audit
from appliance.services.access import can_see_account, not_found, require_account, require_change
from appliance.services.deployment_models import models_of_new
from appliance.services.deployment_shapes import COLLECTION, find_shape
from appliance.services.deployment_spec import DeploymentSpec, check_spec
from appliance.services.shaping import TAKEN_OVER, NamedShape, find_own_shape, shaped_spec
from appliance.store import deployment_shapes
from appliance.store.database import Connection, Database, Transaction

BASE_MODEL = "baseModel"
WIRE_NAMES = TAKEN_OVER | {
    "base_model": BASE_MODEL,
    "display_name": "displayName",
    "description": "description",
    "preset": "presetType",
}


class ShapeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks of a shape; the meanings are `domain.Deployment`'s."""

    base_model: str = ""
    display_name: str = ""
    description: str = ""
    preset: ShapePreset | None = None
    accelerator_type: str | None = None
    accelerator_count: int = 1
    precision: Precision | None = None
    max_context_length: int | None = None
    draft_model: str | None = None
    draft_token_count: int | None = None
    ngram_speculation_length: int | None = None
    kv_cache_fraction: float | None = None
    enable_addons: bool = False
    enable_session_affinity: bool = True


class OwnShapes:
    def __init__(self, database: Database, config: Config, devices: Sequence[Device]) -> None:
        self._database = database
        self._settings = config.identity
        self._fleet = config.fleet
        self._devices = devices

    async def create(
        self, principal: Principal, account_id: str, shape_id: str | None, spec: ShapeSpec, fields: Collection[str]
    ) -> DeploymentShape:
        """Refuses what a deployment of its model could not have."""
        require_account(principal, account_id, self._settings)
        shape_id = generate_id() if shape_id is None else validate_id(shape_id, "deploymentShapeId")
        name = str(ResourceName(account_id, COLLECTION, shape_id))
        require_change(principal, account_id, name, self._settings)
        async with self._database.transaction() as tx:
            is_preset = account_id == self._settings.library_account_id and find_shape(shape_id) is not None
            if is_preset or await deployment_shapes.list_versions(tx.connection, account_id, shape_id):
                raise HearthError(Code.CONFLICT, f"{name} already exists", "deploymentShapeId")
            shape = DeploymentShape(
                account_id=account_id,
                id=shape_id,
                number=1,
                created_by=principal.user_id,
                created_at=tx.now,
                updated_at=tx.now,
                **msgspec.structs.asdict(spec),
            )
            return await self._insert(tx, principal, shape, fields)

    async def list(self, principal: Principal, account_id: str) -> builtins.list[DeploymentShape]:
        """The newest version of each that the caller may see."""
        versions = await self.list_versions(principal, account_id, None)
        newest = {shape.id: shape for shape in reversed(versions)}
        return [newest[shape_id] for shape_id in sorted(newest)]

    async def list_versions(
        self, principal: Principal, account_id: str, shape_id: str | None
    ) -> builtins.list[DeploymentShape]:
        """Of one shape, or of all; the newest of each first. Of another account's, what is public."""
        async with self._database.reader() as db:
            if shape_id is None:
                found = await deployment_shapes.list_in_account(db, account_id)
            else:
                found = await deployment_shapes.list_versions(db, account_id, shape_id)
        in_sight = [shape for shape in found if shape.is_public or account_id == principal.account_id]
        if not in_sight and shape_id is not None:
            raise not_found(str(ResourceName(account_id, COLLECTION, shape_id)))
        if not in_sight and not can_see_account(principal, account_id, self._settings):
            raise not_found(f"accounts/{account_id}")
        return in_sight

    async def get(
        self, principal: Principal, account_id: str, shape_id: str, number: int | None = None
    ) -> DeploymentShape:
        """`number` None: the newest version that the caller may see."""
        async with self._database.reader() as db:
            return await self._find(db, principal, NamedShape(account_id, shape_id, number))

    async def update(
        self, principal: Principal, account_id: str, shape_id: str, spec: ShapeSpec, fields: Collection[str]
    ) -> DeploymentShape:
        """A new version with `fields` of `spec`; its model stays."""
        async with self._database.transaction() as tx:
            shape = await self._find_to_change(tx, principal, NamedShape(account_id, shape_id, None))
            changes = {name: getattr(spec, name) for name in fields}
            changed = msgspec.structs.replace(
                shape,
                **changes | {"base_model": shape.base_model},
                number=shape.number + 1,
                is_public=False,
                updated_at=tx.now,
            )
            same_model = (shape.base_model, shape.base_model.rpartition("/")[2])
            if "base_model" in fields and spec.base_model not in same_model:
                raise HearthError(Code.INVALID, f"{BASE_MODEL}: it cannot be changed; make another shape", BASE_MODEL)
            return await self._insert(tx, principal, changed, fields)

    async def publish(
        self, principal: Principal, account_id: str, shape_id: str, number: int, is_public: bool
    ) -> DeploymentShape:
        """Let other accounts see and use a version, or no longer."""
        async with self._database.transaction() as tx:
            shape = await self._find_to_change(tx, principal, NamedShape(account_id, shape_id, number))
            await deployment_shapes.set_public(tx, shape, is_public)
            await audit.record(tx, principal, shape.version_name, ["public"])
        return msgspec.structs.replace(shape, is_public=is_public)

    async def delete(self, principal: Principal, account_id: str, shape_id: str) -> None:
        """With all versions; deployments that were made with it keep what they took over."""
        async with self._database.transaction() as tx:
            shape = await self._find_to_change(tx, principal, NamedShape(account_id, shape_id, None))
            await deployment_shapes.delete(tx, account_id, shape_id)
            await audit.record(tx, principal, shape.name)

    async def _insert(
        self, tx: Transaction, principal: Principal, shape: DeploymentShape, fields: Collection[str]
    ) -> DeploymentShape:
        """Once a deployment with just these options is found to be possible."""
        spec = shaped_spec(DeploymentSpec(base_model=shape.base_model), shape)
        check_spec(spec, self._devices, self._fleet)
        named = await models_of_new(tx.connection, principal, spec, self._settings)
        draft_model = None if named.draft is None else named.draft.name
        shape = msgspec.structs.replace(shape, base_model=named.base.name, draft_model=draft_model)
        await deployment_shapes.insert(tx, shape)
        await audit.record(tx, principal, shape.version_name, [WIRE_NAMES[name] for name in fields])
        return shape

    async def _find(self, db: Connection, principal: Principal, named: NamedShape) -> DeploymentShape:
        shape = await find_own_shape(db, principal, named)
        if shape is None:
            version = "" if named.number is None else f"/versions/v{named.number}"
            raise not_found(f"{ResourceName(named.account_id, COLLECTION, named.id)}{version}")
        return shape

    async def _find_to_change(self, tx: Transaction, principal: Principal, named: NamedShape) -> DeploymentShape:
        shape = await self._find(tx.connection, principal, named)
        require_change(principal, shape.account_id, shape.name, self._settings, shape.created_by)
        return shape
