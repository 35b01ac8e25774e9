"""What may be asked of a new deployment, and the row that this becomes. Pure: time and facts are arguments."""

from collections.abc import Collection

import msgspec

from appliance.domain import Deployment, DeploymentState, Model, ModelState, Precision
from appliance.errors import Code, HearthError
from appliance.names import ResourceName

DISPLAY_NAME_LENGTH_MAX = 63
DESCRIPTION_LENGTH_MAX = 1000
ANNOTATIONS_BYTES_MAX = 16 * 1024
DRAFT_TOKEN_COUNT_MAX = 16
NGRAM_LENGTH_MIN, NGRAM_LENGTH_MAX = 2, 16


class DeploymentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What its creator asks of a deployment; None leaves the choice to us."""

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


def check_spec(spec: DeploymentSpec, accelerator_types: Collection[str], replica_count_max: int) -> None:
    """All that can be said without the model."""
    count_max = spec.max_replica_count
    checks = {
        "displayName": (
            len(spec.display_name) <= DISPLAY_NAME_LENGTH_MAX,
            f"at most {DISPLAY_NAME_LENGTH_MAX} characters",
        ),
        "description": (
            len(spec.description) <= DESCRIPTION_LENGTH_MAX,
            f"at most {DESCRIPTION_LENGTH_MAX} characters",
        ),
        "annotations": (
            len(msgspec.json.encode(spec.annotations)) <= ANNOTATIONS_BYTES_MAX,
            f"at most {ANNOTATIONS_BYTES_MAX} bytes",
        ),
        "minReplicaCount": (
            0 <= spec.min_replica_count <= replica_count_max,
            f"between 0 and {replica_count_max}",
        ),
        "maxReplicaCount": (
            count_max is None or spec.min_replica_count <= count_max <= replica_count_max,
            f"between minReplicaCount {spec.min_replica_count} and {replica_count_max}",
        ),
        "acceleratorType": (
            spec.accelerator_type is None or spec.accelerator_type in accelerator_types,
            f"{spec.accelerator_type} is not in this box; there is {', '.join(sorted(accelerator_types))}",
        ),
        "acceleratorCount": (spec.accelerator_count == 1, "a replica of this version runs on 1 device"),
        "maxContextLength": (spec.max_context_length is None or spec.max_context_length > 0, "more than 0"),
        **_speculation_checks(spec),
    }
    for param, (is_met, rule) in checks.items():
        if not is_met:
            raise HearthError(Code.INVALID, f"{param}: {rule}", param)


def _speculation_checks(spec: DeploymentSpec) -> dict[str, tuple[bool, str]]:
    count, length = spec.draft_token_count, spec.ngram_speculation_length
    is_drafting = spec.draft_model is not None or length is not None
    rule = f"between 1 and {DRAFT_TOKEN_COUNT_MAX}"
    if not is_drafting:
        rule += ", and only with draftModel or ngramSpeculationLength"
    return {
        "draftTokenCount": (count is None or (is_drafting and 1 <= count <= DRAFT_TOKEN_COUNT_MAX), rule),
        "ngramSpeculationLength": (
            length is None or NGRAM_LENGTH_MIN <= length <= NGRAM_LENGTH_MAX,
            f"between {NGRAM_LENGTH_MIN} and {NGRAM_LENGTH_MAX}",
        ),
    }


def check_draft_model(spec: DeploymentSpec, model: Model, draft: Model) -> None:
    """Whether both have the same vocabulary is found out when they are loaded."""
    if draft.state is not ModelState.READY or draft.info is None:
        raise HearthError(Code.FAILED_PRECONDITION, f"draftModel: {draft.name} is {draft.state}", "draftModel")
    assert model.info is not None, "checked before"
    context_length = spec.max_context_length or model.info.max_context_length
    if draft.info.max_context_length < context_length:
        raise HearthError(
            Code.INVALID,
            f"draftModel: {draft.name} reaches {draft.info.max_context_length} tokens, the deployment"
            f" {context_length}; set maxContextLength lower",
            "draftModel",
        )


def check_model(spec: DeploymentSpec, model: Model) -> None:
    if model.state is not ModelState.READY or model.info is None:
        raise HearthError(Code.FAILED_PRECONDITION, f"baseModel: {model.name} is {model.state}", "baseModel")
    if spec.max_context_length is not None and spec.max_context_length > model.info.max_context_length:
        raise HearthError(
            Code.INVALID,
            f"maxContextLength: {model.name} reaches {model.info.max_context_length} tokens",
            "maxContextLength",
        )


def new_deployment(
    name: ResourceName, spec: DeploymentSpec, model: Model, created_by: str, now: float, draft: Model | None = None
) -> Deployment:
    max_replica_count = max(spec.min_replica_count, 1) if spec.max_replica_count is None else spec.max_replica_count
    return Deployment(
        account_id=name.account_id,
        id=name.resource_id,
        display_name=spec.display_name,
        description=spec.description,
        base_model=model.name,
        state=DeploymentState.CREATING,
        min_replica_count=spec.min_replica_count,
        max_replica_count=max_replica_count,
        desired_replica_count=max(spec.min_replica_count, min(1, max_replica_count)),
        accelerator_type=spec.accelerator_type,
        accelerator_count=spec.accelerator_count,
        precision=spec.precision,
        max_context_length=spec.max_context_length,
        draft_model=None if draft is None else draft.name,
        draft_token_count=spec.draft_token_count,
        ngram_speculation_length=spec.ngram_speculation_length,
        annotations=spec.annotations,
        created_by=created_by,
        created_at=now,
        updated_at=now,
    )
