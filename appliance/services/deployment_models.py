"""The models that a deployment names: found as its creator sees them, and fit for what is asked of them."""

from typing import NamedTuple

from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import Deployment, Model, Principal
from appliance.errors import Code, HearthError
from appliance.names import parse_name
from appliance.services.access import not_found
from appliance.services.deployment_spec import DeploymentSpec, check_draft_model, check_model
from appliance.services.model_field import parse_model
from appliance.services.targets import find_model
from appliance.store import models
from appliance.store.database import Connection

BASE_MODEL, DRAFT_MODEL = "baseModel", "draftModel"


class NamedModels(NamedTuple):
    base: Model
    draft: Model | None


async def find_named_model(
    db: Connection, principal: Principal, text: str, param: str, settings: IdentitySettings
) -> Model:
    for name in parse_model(text, principal.account_id, settings.library_account_id):
        model = await find_model(db, principal, name, settings)
        if model is not None:
            return model
    raise not_found(f"{param}: {text!r}", param)


async def with_default_draft(
    db: Connection, principal: Principal, spec: DeploymentSpec, settings: IdentitySettings
) -> DeploymentSpec:
    """Who guesses ahead where the deployment says nothing of it: what the model's owner chose for it."""
    base = await find_named_model(db, principal, spec.base_model, BASE_MODEL, settings)
    is_said = spec.draft_model is not None or spec.ngram_speculation_length is not None
    if is_said or base.default_draft_model is None:
        return spec
    return replace(spec, draft_model=base.default_draft_model, draft_token_count=base.default_draft_token_count)


async def models_of_new(
    db: Connection, principal: Principal, spec: DeploymentSpec, settings: IdentitySettings
) -> NamedModels:
    base = await find_named_model(db, principal, spec.base_model, BASE_MODEL, settings)
    check_model(spec, base)
    if spec.draft_model is None:
        return NamedModels(base, None)
    draft = await find_named_model(db, principal, spec.draft_model, DRAFT_MODEL, settings)
    check_draft_model(spec, base, draft)
    return NamedModels(base, draft)


async def models_of_change(
    db: Connection, principal: Principal, deployment: Deployment, spec: DeploymentSpec, settings: IdentitySettings
) -> NamedModels:
    """What stays as it was is not checked again: it may be out of the caller's sight by now."""
    _require_same_base(principal, deployment, spec.base_model, settings)
    base = await present_model(db, deployment.base_model, BASE_MODEL)
    if spec.draft_model is None:
        draft = None
    elif spec.draft_model == deployment.draft_model:
        draft = await present_model(db, spec.draft_model, DRAFT_MODEL)
    else:
        draft = await find_named_model(db, principal, spec.draft_model, DRAFT_MODEL, settings)
    if (spec.draft_model, spec.max_context_length) != (deployment.draft_model, deployment.max_context_length):
        check_model(spec, base)
        if draft is not None:
            check_draft_model(spec, base, draft)
    return NamedModels(base, draft)


async def present_model(db: Connection, full_name: str, param: str) -> Model:
    """One that a deployment has; it can be gone only while the deployment is DELETED."""
    name = parse_name(full_name, "models", param)
    model = await models.get(db, name.account_id, name.resource_id)
    if model is None:
        raise HearthError(Code.FAILED_PRECONDITION, f"{param}: {full_name} is there no more", param)
    return model


def _require_same_base(principal: Principal, deployment: Deployment, text: str, settings: IdentitySettings) -> None:
    names = parse_model(text, principal.account_id, settings.library_account_id)
    if deployment.base_model not in map(str, names):
        message = f"{BASE_MODEL}: {deployment.base_model} cannot be exchanged for another; create a deployment of that"
        raise HearthError(Code.INVALID, message, BASE_MODEL)
