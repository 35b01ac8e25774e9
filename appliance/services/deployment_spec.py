"""What may be asked of a deployment, and the row that this becomes. Pure: time and facts are arguments.

The same rules hold for a new deployment and for a change of one: a change is the deployment's present spec with some
fields taken from another (`revised_spec`). What the spec says is either carried out or refused by its wire name.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from appliance.config import FleetSettings
from appliance.domain import (
    AutoscalingPolicy,
    Deployment,
    DeploymentState,
    LoadTarget,
    Model,
    ModelState,
    Precision,
    ScalingSchedule,
    ShapePreset,
)
from appliance.errors import Code, HearthError
from appliance.names import ResourceName
from appliance.orchestrator.gpus import Device
from appliance.services.autoscaling_spec import POLICY, Violation, policy_violations
from models.division import find_indivisible
from models.info import DiffusionInfo

DISPLAY_NAME_LENGTH_MAX = 63
DESCRIPTION_LENGTH_MAX = 1000
ANNOTATIONS_BYTES_MAX = 16 * 1024
DRAFT_TOKEN_COUNT_MAX = 16
NGRAM_LENGTH_MIN, NGRAM_LENGTH_MAX = 2, 16
AUTO_DELETE_S = 7 * 86400.0
POLICY_FIELDS = AutoscalingPolicy.__struct_fields__
SPEC_FIELDS = {
    "baseModel": "base_model",
    "displayName": "display_name",
    "description": "description",
    "annotations": "annotations",
    "minReplicaCount": "min_replica_count",
    "maxReplicaCount": "max_replica_count",
    "acceleratorType": "accelerator_type",
    "acceleratorCount": "accelerator_count",
    "precision": "precision",
    "maxContextLength": "max_context_length",
    "draftModel": "draft_model",
    "draftTokenCount": "draft_token_count",
    "ngramSpeculationLength": "ngram_speculation_length",
    "deploymentShape": "shape",
    "kvCacheFraction": "kv_cache_fraction",
    "enableAddons": "enable_addons",
    "enableSessionAffinity": "enable_session_affinity",
    "pinned": "is_pinned",
    "neverEvicts": "may_evict",
    "unusedAutoDeleteDuration": "auto_delete_s",
    "expireTime": "expires_at",
    f"{POLICY}.scaleUpWindow": "scale_up_window_s",
    f"{POLICY}.scaleDownWindow": "scale_down_window_s",
    f"{POLICY}.scaleToZeroWindow": "scale_to_zero_window_s",
    f"{POLICY}.loadTargets": "load_targets",
    f"{POLICY}.scalingSchedules": "scaling_schedules",
}
"""From the wire's path of whatever can be changed to the spec's field."""


class DeploymentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks of a deployment; None leaves the choice to us. The meanings are `domain.Deployment`'s."""

    base_model: str
    display_name: str = ""
    description: str = ""
    annotations: dict[str, str] = {}
    min_replica_count: int = 0
    max_replica_count: int | None = None
    """None: one, or the minimum if that is more. 0 holds it at zero replicas."""
    accelerator_type: str | None = None
    accelerator_count: int = 1
    precision: Precision | None = None
    max_context_length: int | None = None
    draft_model: str | None = None
    draft_token_count: int | None = None
    ngram_speculation_length: int | None = None
    scale_up_window_s: float | None = None
    scale_down_window_s: float | None = None
    scale_to_zero_window_s: float | None = None
    load_targets: dict[LoadTarget, float] = {}
    """Empty: the default one."""
    scaling_schedules: dict[str, ScalingSchedule] = {}
    auto_delete_s: float | None = None
    """0: never."""
    expires_at: float | None = None
    shape: str | None = None
    """As somebody wrote it, until `shaping.py` made the full name of a version of it."""
    shape_preset: ShapePreset | None = None
    """What the shape says."""
    kv_cache_fraction: float | None = None
    enable_addons: bool = False
    enable_session_affinity: bool = True
    is_pinned: bool = False
    may_evict: bool = True

    @property
    def max_replicas(self) -> int:
        return max(self.min_replica_count, 1) if self.max_replica_count is None else self.max_replica_count

    @property
    def autoscaling(self) -> AutoscalingPolicy:
        """What is left to us keeps the policy's own default."""
        given = {name: getattr(self, name) for name in POLICY_FIELDS if getattr(self, name) not in (None, {})}
        return AutoscalingPolicy(**given)


OWN_FIELDS = [name for name in DeploymentSpec.__struct_fields__ if name in Deployment.__struct_fields__]
"""Those that are a deployment's own; the others are its autoscaling policy's."""


def spec_of(deployment: Deployment) -> DeploymentSpec:
    """What was asked of it, choices that were left to us as they were made."""
    own = {name: getattr(deployment, name) for name in OWN_FIELDS}
    return DeploymentSpec(**own, **{name: getattr(deployment.autoscaling, name) for name in POLICY_FIELDS})


def revised_spec(deployment: Deployment, asked: DeploymentSpec, fields: Collection[str]) -> DeploymentSpec:
    return msgspec.structs.replace(spec_of(deployment), **{name: getattr(asked, name) for name in fields})


def changed_fields(before: DeploymentSpec, after: DeploymentSpec) -> list[str]:
    """On the wire's paths."""
    return [path for path, field in SPEC_FIELDS.items() if getattr(before, field) != getattr(after, field)]


def check_spec(spec: DeploymentSpec, devices: Sequence[Device], settings: FleetSettings) -> None:
    """All that can be said without the model."""
    for violation in violations(spec, devices, settings):
        raise refusal(violation)


def check_revision(
    before: DeploymentSpec, after: DeploymentSpec, devices: Sequence[Device], settings: FleetSettings
) -> None:
    """Likewise, but what was there before and has since become impossible does not hinder other changes."""
    known = set(violations(before, devices, settings))
    for violation in violations(after, devices, settings):
        if violation not in known:
            raise refusal(violation)


def refusal(violation: Violation) -> HearthError:
    return HearthError(Code.INVALID, f"{violation.param}: {violation.rule}", violation.param)


def violations(spec: DeploymentSpec, devices: Sequence[Device], settings: FleetSettings) -> Iterator[Violation]:
    """Every rule that is broken, the fundamental ones first."""
    replica_count_max = settings.replica_count_max
    if len(spec.display_name) > DISPLAY_NAME_LENGTH_MAX:
        yield Violation("displayName", f"at most {DISPLAY_NAME_LENGTH_MAX} characters")
    if len(spec.description) > DESCRIPTION_LENGTH_MAX:
        yield Violation("description", f"at most {DESCRIPTION_LENGTH_MAX} characters")
    if len(msgspec.json.encode(spec.annotations)) > ANNOTATIONS_BYTES_MAX:
        yield Violation("annotations", f"at most {ANNOTATIONS_BYTES_MAX} bytes")
    if not 0 <= spec.min_replica_count <= replica_count_max:
        yield Violation("minReplicaCount", f"between 0 and {replica_count_max}")
    elif not spec.min_replica_count <= spec.max_replicas <= replica_count_max:
        yield Violation("maxReplicaCount", f"between minReplicaCount {spec.min_replica_count} and {replica_count_max}")
    yield from _accelerator_violations(spec, devices)
    if spec.max_context_length is not None and spec.max_context_length <= 0:
        yield Violation("maxContextLength", "more than 0")
    if spec.kv_cache_fraction is not None and not 0 < spec.kv_cache_fraction <= 1:
        yield Violation("kvCacheFraction", "a share above 0 and up to 1")
    if spec.auto_delete_s is not None and spec.auto_delete_s < 0:
        yield Violation("unusedAutoDeleteDuration", "0s, which means never, or more")
    yield from _speculation_violations(spec)
    yield from policy_violations(spec.autoscaling, spec.max_replicas, settings.min_scale_to_zero_window_s)


def _accelerator_violations(spec: DeploymentSpec, devices: Sequence[Device]) -> Iterator[Violation]:
    suitable = [device for device in devices if spec.accelerator_type in (None, device.accelerator_type)]
    counts = {kind: sum(device.accelerator_type == kind for device in suitable) for kind in _types(suitable)}
    most = max(counts.values(), default=0)
    if not suitable:
        yield Violation(
            "acceleratorType", f"{spec.accelerator_type} is not in this box; there is {', '.join(_types(devices))}"
        )
    elif not 1 <= spec.accelerator_count <= most:
        yield Violation("acceleratorCount", f"between 1 and {most}, which is what this box has of one kind")
    if spec.accelerator_count > 1 and spec.enable_addons:
        yield Violation("enableAddons", "not with an acceleratorCount above 1")


def _types(devices: Sequence[Device]) -> list[str]:
    return sorted({device.accelerator_type for device in devices})


def _speculation_violations(spec: DeploymentSpec) -> Iterator[Violation]:
    count, length = spec.draft_token_count, spec.ngram_speculation_length
    is_drafting = spec.draft_model is not None or length is not None
    if count is not None and not (is_drafting and 1 <= count <= DRAFT_TOKEN_COUNT_MAX):
        rule = f"between 1 and {DRAFT_TOKEN_COUNT_MAX}"
        if not is_drafting:
            rule += ", and only with draftModel or ngramSpeculationLength"
        yield Violation("draftTokenCount", rule)
    if length is not None and not NGRAM_LENGTH_MIN <= length <= NGRAM_LENGTH_MAX:
        yield Violation("ngramSpeculationLength", f"between {NGRAM_LENGTH_MIN} and {NGRAM_LENGTH_MAX}")


def check_expiry(expires_at: float | None, now: float) -> None:
    if expires_at is not None and expires_at <= now:
        raise refusal(Violation("expireTime", "in the future"))


def check_model(spec: DeploymentSpec, model: Model) -> None:
    if model.base_model is not None:
        message = f"{model.name} is an addon of {model.base_model}: deploy that, and the addon on its deployment"
        raise refusal(Violation("baseModel", message))
    if model.state is not ModelState.READY or model.served_info is None:
        raise HearthError(Code.FAILED_PRECONDITION, f"baseModel: {model.name} is {model.state}", "baseModel")
    if model.checkpoint(spec.precision) is None:
        message = f"precision: {model.name} is not prepared for {spec.precision}, which is asked for with :prepare"
        raise HearthError(Code.FAILED_PRECONDITION, message, "precision")
    if model.llm_info is None:
        _check_without_kv_cache(spec, model)
    elif obstacle := find_indivisible(model.llm_info, spec.accelerator_count):
        raise refusal(Violation("acceleratorCount", f"{model.name}: {obstacle}"))
    reach = model.served_info.max_context_length
    if spec.max_context_length is not None and spec.max_context_length > reach:
        raise refusal(Violation("maxContextLength", f"{model.name} reaches {reach} tokens"))


def _check_without_kv_cache(spec: DeploymentSpec, model: Model) -> None:
    """What only language models have; a neutral value is none."""
    stated = {
        "draftModel": spec.draft_model,
        "draftTokenCount": spec.draft_token_count,
        "ngramSpeculationLength": spec.ngram_speculation_length,
        "kvCacheFraction": spec.kv_cache_fraction,
        "acceleratorCount": spec.accelerator_count if spec.accelerator_count > 1 else None,
        "enableAddons": (spec.enable_addons and not isinstance(model.info, DiffusionInfo)) or None,
    }
    for name, value in stated.items():
        if value is not None:
            raise refusal(Violation(name, f"{model.name} is no language model: leave it out"))


def check_draft_model(spec: DeploymentSpec, model: Model, draft: Model) -> None:
    """Whether both have the same vocabulary is found out when they are loaded."""
    if draft.base_model is not None:
        raise refusal(Violation("draftModel", f"{draft.name} is an addon; a draft model is a base model"))
    if draft.state is not ModelState.READY or draft.info is None:
        raise HearthError(Code.FAILED_PRECONDITION, f"draftModel: {draft.name} is {draft.state}", "draftModel")
    if draft.llm_info is None:
        raise refusal(Violation("draftModel", f"{draft.name} is no language model"))
    assert model.served_info is not None, "checked before"
    context_length = spec.max_context_length or model.served_info.max_context_length
    if draft.info.max_context_length < context_length:
        rule = (
            f"{draft.name} reaches {draft.info.max_context_length} tokens, the deployment"
            f" {context_length}; set maxContextLength lower"
        )
        raise refusal(Violation("draftModel", rule))


def new_deployment(
    name: ResourceName,
    spec: DeploymentSpec,
    model: Model,
    draft: Model | None = None,
    *,
    created_by: str,
    now: float,
) -> Deployment:
    return Deployment(
        account_id=name.account_id,
        id=name.resource_id,
        base_model=model.name,
        state=DeploymentState.CREATING,
        desired_replica_count=max(spec.min_replica_count, min(1, spec.max_replicas)),
        created_by=created_by,
        created_at=now,
        updated_at=now,
        **_options(spec, draft),
    )


def revised_deployment(deployment: Deployment, spec: DeploymentSpec, draft: Model | None, now: float) -> Deployment:
    """Its desired replica count and its revision are left as they were."""
    return msgspec.structs.replace(deployment, **_options(spec, draft), updated_at=now)


def _options(spec: DeploymentSpec, draft: Model | None) -> dict[str, Any]:
    """The fields of a row that are asked for."""
    return {name: getattr(spec, name) for name in OWN_FIELDS if name != "base_model"} | {
        "max_replica_count": spec.max_replicas,
        "autoscaling": spec.autoscaling,
        "auto_delete_s": AUTO_DELETE_S if spec.auto_delete_s is None else spec.auto_delete_s,
        "draft_model": None if draft is None else draft.name,
    }
