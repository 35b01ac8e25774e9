"""What a deployment takes over from the shape that it names: a preset of this box, or a version of an account's own.

Afterwards the spec names the version, and holds all that the shape says; what it says otherwise itself is refused.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from appliance.config import IdentitySettings
from appliance.domain import DeploymentShape, Principal
from appliance.errors import Code, HearthError
from appliance.names import ID_LENGTH_MAX
from appliance.services.access import not_found
from appliance.services.deployment_shapes import COLLECTION, PARAM, find_preset, resolve_shape, version_name
from appliance.services.deployment_spec import DeploymentSpec
from appliance.services.model_field import parse_model
from appliance.store import deployment_shapes
from appliance.store.database import Connection

TAKEN_OVER = {
    "accelerator_type": "acceleratorType",
    "accelerator_count": "acceleratorCount",
    "precision": "precision",
    "max_context_length": "maxContextLength",
    "draft_model": "draftModel",
    "draft_token_count": "draftTokenCount",
    "ngram_speculation_length": "ngramSpeculationLength",
    "kv_cache_fraction": "kvCacheFraction",
    "enable_addons": "enableAddons",
    "enable_session_affinity": "enableSessionAffinity",
}
"""Fields that a shape and a deployment have in common, and their names on the wire."""
_OPTIONS = {field.name: field for field in msgspec.structs.fields(DeploymentSpec) if field.name in TAKEN_OVER}
_ID = rf"[a-z0-9-]{{1,{ID_LENGTH_MAX}}}"
_NAME = re.compile(rf"accounts/(?P<account>{_ID})/{COLLECTION}/(?P<id>{_ID})(?:/versions/v(?P<number>[0-9]{{1,9}}))?")


class NamedShape(NamedTuple):
    account_id: str
    id: str
    number: int | None
    """None: the newest version."""


def parse_shape_name(text: str, account_id: str) -> NamedShape | None:
    """A full name of a shape or of a version, or an id in the account itself."""
    if re.fullmatch(_ID, text):
        return NamedShape(account_id, text, None)
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    return NamedShape(match["account"], match["id"], int(match["number"]) if match["number"] else None)


async def find_own_shape(db: Connection, principal: Principal, named: NamedShape) -> DeploymentShape | None:
    """Of another account, what is public."""
    versions: Sequence[DeploymentShape]
    if named.number is None:
        versions = await deployment_shapes.list_versions(db, named.account_id, named.id)
    else:
        version = await deployment_shapes.get_version(db, named.account_id, named.id, named.number)
        versions = [] if version is None else [version]
    in_sight = (each for each in versions if each.is_public or each.account_id == principal.account_id)
    return next(in_sight, None)


async def take_over_shape(
    db: Connection, principal: Principal, spec: DeploymentSpec, settings: IdentitySettings, *, skips_check: bool = False
) -> DeploymentSpec:
    """`skips_check`: what the spec says itself goes before what the shape says."""
    if spec.shape is None:
        return msgspec.structs.replace(spec, shape_preset=None)
    if find_preset(spec.shape, settings.library_account_id) is None:
        named = parse_shape_name(spec.shape, principal.account_id)
        own = None if named is None else await find_own_shape(db, principal, named)
        if own is not None:
            if not skips_check:
                _require_base(principal, spec, own, settings)
            return shaped_spec(spec, own, skips_check=skips_check)
        if named is not None and "/" in spec.shape and named.account_id != settings.library_account_id:
            raise not_found(f"{PARAM}: {spec.shape!r}", PARAM)
    preset = resolve_shape(spec.shape, settings.library_account_id)
    name = version_name(preset, settings.library_account_id)
    return msgspec.structs.replace(spec, shape=name, shape_preset=preset.preset)


def _require_base(
    principal: Principal, spec: DeploymentSpec, shape: DeploymentShape, settings: IdentitySettings
) -> None:
    named = parse_model(spec.base_model, principal.account_id, settings.library_account_id)
    if shape.base_model not in map(str, named):
        raise HearthError(Code.INVALID, f"{PARAM}: {shape.version_name} is for {shape.base_model}", PARAM)


def shaped_spec(spec: DeploymentSpec, shape: DeploymentShape, *, skips_check: bool = False) -> DeploymentSpec:
    """What the spec leaves at its default counts as not said."""
    changes: dict[str, object] = {}
    for name, wire_name in TAKEN_OVER.items():
        asked, wanted = getattr(spec, name), getattr(shape, name)
        if asked == _OPTIONS[name].default:
            changes[name] = wanted
        elif asked != wanted and not skips_check:
            message = f"{wire_name}: {asked} differs from what {shape.version_name} says ({wanted}); leave it out"
            raise HearthError(Code.INVALID, message, wire_name)
    return msgspec.structs.replace(spec, **changes, shape=shape.version_name, shape_preset=shape.preset)
