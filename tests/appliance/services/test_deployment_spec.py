from typing import Any

import msgspec
import pytest

from appliance.domain import DeploymentState, ModelState, Precision
from appliance.errors import Code, HearthError
from appliance.names import ResourceName
from appliance.services.deployment_spec import (
    DeploymentSpec,
    check_draft_model,
    check_model,
    check_spec,
    new_deployment,
)
from tests.appliance.services.samples import model

POET = model("acme", "poet")
NAME = ResourceName("acme", "deployments", "fast")
TYPES = ["NVIDIA_L4_24GB", "NVIDIA_H100_80GB"]


def spec(**changes: Any) -> DeploymentSpec:
    return DeploymentSpec(base_model="poet", **changes)


@pytest.mark.parametrize(
    ("changes", "minimum", "maximum", "desired"),
    [
        ({}, 0, 1, 1),
        ({"min_replica_count": 3}, 3, 3, 3),
        ({"max_replica_count": 0}, 0, 0, 0),
        ({"max_replica_count": 4}, 0, 4, 1),
        ({"min_replica_count": 2, "max_replica_count": 4}, 2, 4, 2),
    ],
)
def test_replica_counts_not_given_follow_from_those_given(
    changes: dict[str, Any], minimum: int, maximum: int, desired: int
) -> None:
    check_spec(spec(**changes), TYPES, replica_count_max=8)
    made = new_deployment(NAME, spec(**changes), POET, "ada", now=5.0)
    assert (made.min_replica_count, made.max_replica_count, made.desired_replica_count) == (minimum, maximum, desired)


def test_a_new_deployment_is_what_was_asked_for() -> None:
    asked = spec(
        display_name="Fast",
        description="quick",
        annotations={"team": "shop"},
        accelerator_type=TYPES[0],
        precision=Precision.FP16,
        max_context_length=100,
    )
    made = new_deployment(NAME, asked, POET, "ada", now=5.0)
    assert made.name == str(NAME)
    assert made.base_model == POET.name
    assert made.state is DeploymentState.CREATING
    assert (made.created_by, made.created_at, made.updated_at) == ("ada", 5.0, 5.0)
    for field in ("display_name", "description", "annotations", "accelerator_type", "precision", "max_context_length"):
        assert getattr(made, field) == getattr(asked, field)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"display_name": "x" * 64}, "displayName"),
        ({"description": "x" * 1001}, "description"),
        ({"annotations": {"x": "y" * 20_000}}, "annotations"),
        ({"min_replica_count": -1}, "minReplicaCount"),
        ({"min_replica_count": 9}, "minReplicaCount"),
        ({"max_replica_count": -1}, "maxReplicaCount"),
        ({"max_replica_count": 9}, "maxReplicaCount"),
        ({"min_replica_count": 2, "max_replica_count": 1}, "maxReplicaCount"),
        ({"accelerator_count": 2}, "acceleratorCount"),
        ({"accelerator_count": 0}, "acceleratorCount"),
        ({"max_context_length": 0}, "maxContextLength"),
        ({"draft_token_count": 4}, "draftTokenCount"),
        ({"draft_token_count": 0, "draft_model": "apprentice"}, "draftTokenCount"),
        ({"draft_token_count": 17, "ngram_speculation_length": 3}, "draftTokenCount"),
        ({"ngram_speculation_length": 1}, "ngramSpeculationLength"),
        ({"ngram_speculation_length": 17}, "ngramSpeculationLength"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(HearthError) as caught:
        check_spec(spec(**changes), TYPES, replica_count_max=8)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, param)


def test_an_accelerator_that_is_not_here_is_refused_with_those_that_are() -> None:
    check_spec(spec(accelerator_type=TYPES[0]), TYPES, replica_count_max=8)
    with pytest.raises(HearthError, match="there is NVIDIA_H100_80GB, NVIDIA_L4_24GB") as caught:
        check_spec(spec(accelerator_type="AMD_MI300X_192GB"), TYPES, replica_count_max=8)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "acceleratorType")


def test_a_model_that_is_not_ready_cannot_be_deployed() -> None:
    with pytest.raises(HearthError) as caught:
        check_model(spec(), model("acme", "poet", state=ModelState.UPLOADING))
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_context_longer_than_the_models_is_refused() -> None:
    check_model(spec(max_context_length=512), POET)
    with pytest.raises(HearthError, match="512") as caught:
        check_model(spec(max_context_length=513), POET)
    assert caught.value.param == "maxContextLength"


def test_speculation_is_kept_as_asked_for_with_the_draft_models_full_name() -> None:
    apprentice = model("acme", "apprentice")
    asked = spec(draft_model="apprentice", draft_token_count=6, ngram_speculation_length=3)
    check_spec(asked, TYPES, replica_count_max=8)
    check_draft_model(asked, POET, apprentice)
    made = new_deployment(NAME, asked, POET, "ada", 5.0, apprentice)
    assert (made.draft_model, made.draft_token_count, made.ngram_speculation_length) == (apprentice.name, 6, 3)


def test_a_draft_model_must_be_ready_and_reach_as_far_as_requests_may() -> None:
    with pytest.raises(HearthError) as caught:
        check_draft_model(spec(), POET, model("acme", "apprentice", state=ModelState.UPLOADING))
    assert (caught.value.code, caught.value.param) == (Code.FAILED_PRECONDITION, "draftModel")
    assert POET.info is not None
    short_info = msgspec.structs.replace(POET.info, max_context_length=POET.info.max_context_length - 1)
    short = msgspec.structs.replace(model("acme", "apprentice"), info=short_info)
    check_draft_model(spec(max_context_length=short_info.max_context_length), POET, short)
    with pytest.raises(HearthError, match="maxContextLength") as caught:
        check_draft_model(spec(), POET, short)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "draftModel")
