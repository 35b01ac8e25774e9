"""Shapes as clients see them: the box's presets, what a preset would give a model, and accounts' own shapes."""

from typing import Annotated

import msgspec

from appliance.api.control.wire import Answer, render_time
from appliance.domain import DeploymentShape
from appliance.services.deployment_shapes import Shape, shape_name, version_name
from appliance.services.shape_matching import ShapeFit


class DeploymentShapeAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    preset_type: str
    base_model: Annotated[
        str, msgspec.Meta(description="Empty, with all that follows from a model, where a preset is for every model.")
    ]
    model_type: str | None = None
    parameter_count: str | None = None
    accelerator_type: str | None = None
    accelerator_count: int | None = None
    precision: str | None = None
    max_context_length: int | None = None
    draft_model: str | None = None
    draft_token_count: int | None = None
    ngram_speculation_length: int | None = None
    kv_cache_fraction: float | None = None
    enable_addons: bool | None = None
    enable_session_affinity: bool | None = None
    num_lora_device_cached: int | None = None
    memory_bytes: Annotated[
        str | None, msgspec.Meta(description="What a replica would take of each device, where a model was named.")
    ] = None
    create_time: str | None = None
    update_time: str | None = None


class DeploymentShapeVersionAnswer(Answer, frozen=True, kw_only=True):
    name: str
    snapshot: DeploymentShapeAnswer
    validated: bool
    public: bool
    latest_validated: bool
    create_time: str | None = None


def render_preset(shape: Shape, library_account_id: str) -> DeploymentShapeAnswer:
    return DeploymentShapeAnswer(
        name=shape_name(shape, library_account_id),
        display_name=shape.display_name,
        description=shape.description,
        preset_type=shape.preset,
        base_model="",
    )


def render_fit(fit: ShapeFit, library_account_id: str, addons_max: int) -> DeploymentShapeAnswer:
    info = fit.model.info
    assert info is not None, "a model without it fits nothing"
    return DeploymentShapeAnswer(
        name=shape_name(fit.shape, library_account_id),
        display_name=fit.shape.display_name,
        description=fit.shape.description,
        preset_type=fit.shape.preset,
        base_model=fit.model.name,
        model_type=info.model_type,
        parameter_count=str(info.num_parameters),
        accelerator_type=fit.accelerator_type,
        accelerator_count=fit.accelerator_count,
        precision=fit.precision,
        max_context_length=fit.max_context_length,
        enable_addons=fit.enable_addons,
        num_lora_device_cached=addons_max if fit.enable_addons else None,
        memory_bytes=str(fit.num_bytes),
    )


def render_preset_version(
    shape: Shape, library_account_id: str, snapshot: DeploymentShapeAnswer | None = None
) -> DeploymentShapeVersionAnswer:
    return DeploymentShapeVersionAnswer(
        name=version_name(shape, library_account_id),
        snapshot=snapshot or render_preset(shape, library_account_id),
        validated=True,
        public=True,
        latest_validated=True,
    )


def render_own(shape: DeploymentShape) -> DeploymentShapeAnswer:
    return DeploymentShapeAnswer(
        name=shape.name,
        display_name=shape.display_name,
        description=shape.description,
        preset_type=shape.preset or "PRESET_TYPE_UNSPECIFIED",
        base_model=shape.base_model,
        accelerator_type=shape.accelerator_type,
        accelerator_count=shape.accelerator_count,
        precision=shape.precision,
        max_context_length=shape.max_context_length,
        draft_model=shape.draft_model,
        draft_token_count=shape.draft_token_count,
        ngram_speculation_length=shape.ngram_speculation_length,
        kv_cache_fraction=shape.kv_cache_fraction,
        enable_addons=shape.enable_addons,
        enable_session_affinity=shape.enable_session_affinity,
        create_time=render_time(shape.created_at),
        update_time=render_time(shape.updated_at),
    )


def render_own_version(shape: DeploymentShape, *, is_newest: bool) -> DeploymentShapeVersionAnswer:
    """Every version was validated when it was made."""
    return DeploymentShapeVersionAnswer(
        name=shape.version_name,
        snapshot=render_own(shape),
        validated=True,
        public=shape.is_public,
        latest_validated=is_newest,
        create_time=render_time(shape.updated_at),
    )
