"""What clients send about a deployment: read into a spec, and which of its fields a change means.

Zero and empty mean "not said", as everywhere in this API, except where zero is a choice: replicas and durations.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.codec import decode_json, read_body
from appliance.api.control.durations import Duration, parse_duration
from appliance.api.control.wire import NotServed, Timestamp, Wire, is_neutral, parse_enum, refuse_not_served
from appliance.domain import LoadTarget, Precision, ScalingSchedule
from appliance.errors import Code, HearthError
from appliance.services.autoscaling_spec import POLICY, read_load_targets
from appliance.services.deployment_spec import SPEC_FIELDS, DeploymentSpec

GLOBAL = "GLOBAL"
"""The multi-region that means every box, so this one."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class PlacementBody(Wire, frozen=True, kw_only=True):
    region: str | None = None
    multi_region: str | None = None
    regions: list[str] | None = None


class ScalingScheduleBody(Wire, frozen=True, kw_only=True):
    min_replica_count: Count
    schedule: str
    duration: Duration
    timezone: str
    description: str | None = None
    disabled: bool | None = None


class AutoscalingPolicyBody(Wire, frozen=True, kw_only=True):
    scale_up_window: Duration | None = None
    scale_down_window: Duration | None = None
    scale_to_zero_window: Duration | None = None
    load_targets: dict[str, float] | None = None
    scaling_schedules: dict[str, ScalingScheduleBody] | None = None


class DeploymentBody(Wire, frozen=True, kw_only=True):
    base_model: str
    display_name: str | None = None
    description: str | None = None
    annotations: dict[str, str] | None = None
    min_replica_count: Count | None = None
    max_replica_count: Count | None = None
    accelerator_type: str | None = None
    accelerator_count: Count | None = None
    precision: str | None = None
    max_context_length: Count | None = None
    draft_model: str | None = None
    draft_token_count: Count | None = None
    ngram_speculation_length: Count | None = None
    placement: PlacementBody | None = None
    autoscaling_policy: AutoscalingPolicyBody | None = None
    deployment_shape: str | None = None
    enable_addons: bool | None = None
    enable_session_affinity: bool | None = None
    expire_time: Timestamp | None = None
    kv_cache_fraction: float | None = None
    pinned: bool | None = None
    never_evicts: bool | None = None
    unused_auto_delete_duration: Duration | None = None
    active_model_version: NotServed = None
    auto_tune: NotServed = None
    cluster: NotServed = None
    deployment_template: NotServed = None
    direct_route_api_keys: NotServed = None
    direct_route_type: NotServed = None
    disable_deployment_size_validation: NotServed = None
    enable_hot_load: NotServed = None
    enable_hot_reload_latest_addon: NotServed = None
    enable_mtp: NotServed = None
    hot_load_bucket_type: NotServed = None
    hot_load_bucket_url: NotServed = None
    hot_load_trainer_job: NotServed = None
    max_with_revocable_replica_count: NotServed = None
    num_peft_device_cached: NotServed = None
    pricing_plan_id: NotServed = None
    target_model_version: NotServed = None


class DeploymentUpdateBody(DeploymentBody, frozen=True, kw_only=True):
    """Only the fields that are present change, or those that `updateMask` names."""

    base_model: str | None = None  # type: ignore[assignment]


def read_spec(body: DeploymentBody, *, disables_speculation: bool = False) -> DeploymentSpec:
    if disables_speculation:
        body = replace(body, draft_model=None, draft_token_count=None, ngram_speculation_length=None)
    policy = body.autoscaling_policy or AutoscalingPolicyBody()
    return DeploymentSpec(
        base_model=body.base_model or "",
        display_name=body.display_name or "",
        description=body.description or "",
        annotations=body.annotations or {},
        min_replica_count=body.min_replica_count or 0,
        max_replica_count=body.max_replica_count,
        accelerator_type=None if is_neutral(body.accelerator_type) else body.accelerator_type,
        accelerator_count=body.accelerator_count or 1,
        precision=parse_enum(Precision, body.precision, "precision"),
        max_context_length=body.max_context_length or None,
        draft_model=body.draft_model or None,
        draft_token_count=body.draft_token_count or None,
        ngram_speculation_length=body.ngram_speculation_length or None,
        scale_up_window_s=_seconds(policy.scale_up_window, f"{POLICY}.scaleUpWindow"),
        scale_down_window_s=_seconds(policy.scale_down_window, f"{POLICY}.scaleDownWindow"),
        scale_to_zero_window_s=_seconds(policy.scale_to_zero_window, f"{POLICY}.scaleToZeroWindow"),
        load_targets=_load_targets(policy.load_targets or {}),
        scaling_schedules={
            name: _schedule(f"{POLICY}.scalingSchedules.{name}", schedule)
            for name, schedule in (policy.scaling_schedules or {}).items()
        },
        auto_delete_s=_seconds(body.unused_auto_delete_duration, "unusedAutoDeleteDuration"),
        expires_at=None if body.expire_time is None else body.expire_time.timestamp(),
        shape=body.deployment_shape or None,
        kv_cache_fraction=body.kv_cache_fraction or None,
        enable_addons=body.enable_addons or False,
        enable_session_affinity=body.enable_session_affinity is not False,
        is_pinned=body.pinned or False,
        may_evict=not body.never_evicts,
    )


async def read_update(request: web.Request, mask: str) -> tuple[DeploymentUpdateBody, Collection[str]]:
    """What is sent, and the spec's fields that it means to change."""
    content = await read_body(request) or b"{}"
    body = decode_json(content, DeploymentUpdateBody)
    refuse_not_served(body)
    return body, _masked(mask) if mask else _present(msgspec.json.decode(content))


def refuse_other_regions(placement: PlacementBody | None, region: str) -> None:
    """There is one region: that of this box."""
    if placement is None:
        return
    asked = {"placement.region": [placement.region or ""], "placement.multiRegion": [placement.multi_region or ""]}
    for param, names in (asked | {"placement.regions": placement.regions or []}).items():
        for name in names:
            refuse_other_region(name, param, region)


def refuse_other_region(name: str | None, param: str, region: str) -> None:
    if not is_neutral(name) and name not in (region, GLOBAL):
        raise HearthError(Code.INVALID, f"{param}: {name!r} is not here; this box is {region}", param)


def _present(content: Mapping[str, Any]) -> Collection[str]:
    """A policy's members change one by one; clients send back what they have read, so other names are ignored."""
    paths = set(content)
    policy = content.get(POLICY)
    if POLICY in content:
        paths |= {f"{POLICY}.{name}" for name in policy} if isinstance(policy, dict) else _members(POLICY)
    return [field for path, field in SPEC_FIELDS.items() if path in paths]


def _masked(mask: str) -> Collection[str]:
    """A path may be spelled in either style; what it names and the body lacks goes back to its default."""
    fields: list[str] = []
    for text in mask.split(","):
        path = ".".join(_camel(name) for name in text.strip().split("."))
        paths = [name for name in SPEC_FIELDS if name != "baseModel"] if path == "*" else _members(path)
        if not paths:
            message = f"updateMask: {text.strip()[:80]!r} is no field of a deployment that can be changed"
            raise HearthError(Code.INVALID, message, "updateMask")
        fields += (SPEC_FIELDS[name] for name in paths)
    return fields


def _members(path: str) -> set[str]:
    return {name for name in SPEC_FIELDS if name == path or name.startswith(f"{path}.")}


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in tail)


def _seconds(text: str | None, param: str) -> float | None:
    return parse_duration(text, param) if text else None


def _load_targets(values: dict[str, float]) -> dict[LoadTarget, float]:
    param = f"{POLICY}.loadTargets"
    try:
        return read_load_targets(values)
    except ValueError as error:
        raise HearthError(Code.INVALID, f"{param}: {error}", param) from error


def _schedule(path: str, body: ScalingScheduleBody) -> ScalingSchedule:
    return ScalingSchedule(
        min_replica_count=body.min_replica_count,
        schedule=body.schedule,
        duration_s=parse_duration(body.duration, f"{path}.duration"),
        timezone=body.timezone,
        description=body.description or "",
        is_disabled=body.disabled or False,
    )
