from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from appliance.config import FleetSettings
from appliance.domain import (
    AutoscalingPolicy,
    Deployment,
    DeploymentState,
    LoadTarget,
    Model,
    ModelState,
    Precision,
    Preparation,
    PreparationState,
    ScalingSchedule,
    ShapePreset,
)
from appliance.errors import Code, HearthError
from appliance.names import ResourceName
from appliance.services.deployment_spec import (
    AUTO_DELETE_S,
    DeploymentSpec,
    check_draft_model,
    check_expiry,
    check_model,
    check_revision,
    check_spec,
    new_deployment,
    revised_deployment,
    revised_spec,
    spec_of,
)
from tests.appliance.services.samples import model
from tests.fakes.fake_gpus import fake_device

POET = model("acme", "poet")
NAME = ResourceName("acme", "deployments", "fast")
L4, H100 = "NVIDIA_L4_24GB", "NVIDIA_H100_80GB"
DEVICES = [fake_device(0, 24, L4), fake_device(1, 80, H100), fake_device(2, 80, H100)]
SETTINGS = FleetSettings(replica_count_max=8)
SCHEDULE = ScalingSchedule(min_replica_count=1, schedule="0 8 * * *", duration_s=60.0, timezone="UTC")
EVERYTHING: dict[str, Any] = {
    "display_name": "Fast",
    "description": "quick",
    "annotations": {"team": "shop"},
    "min_replica_count": 1,
    "max_replica_count": 3,
    "accelerator_type": H100,
    "accelerator_count": 2,
    "precision": Precision.FP16,
    "max_context_length": 100,
    "draft_model": "accounts/acme/models/apprentice",
    "draft_token_count": 6,
    "ngram_speculation_length": 3,
    "scale_up_window_s": 1.0,
    "scale_down_window_s": 2.0,
    "scale_to_zero_window_s": 300.0,
    "load_targets": {LoadTarget.CONCURRENT_REQUESTS: 7.0},
    "scaling_schedules": {"mornings": SCHEDULE},
    "auto_delete_s": 0.0,
    "expires_at": 99.0,
    "shape": "accounts/library/deploymentShapes/throughput/versions/v1",
    "shape_preset": ShapePreset.THROUGHPUT,
    "kv_cache_fraction": 0.5,
    "enable_session_affinity": False,
    "is_pinned": True,
    "may_evict": False,
}


def spec(**changes: Any) -> DeploymentSpec:
    return DeploymentSpec(base_model="poet", **changes)


def made(asked: DeploymentSpec, draft: Model | None = None) -> Deployment:
    return new_deployment(NAME, asked, POET, draft, created_by="ada", now=5.0)


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
    check_spec(spec(**changes), DEVICES, SETTINGS)
    new = made(spec(**changes))
    assert (new.min_replica_count, new.max_replica_count, new.desired_replica_count) == (minimum, maximum, desired)


def test_a_new_deployment_is_what_was_asked_for() -> None:
    asked = spec(**EVERYTHING)
    check_spec(asked, DEVICES, SETTINGS)
    new = made(asked, model("acme", "apprentice"))
    assert new.name == str(NAME)
    assert new.base_model == POET.name
    assert new.state is DeploymentState.CREATING
    assert (new.created_by, new.created_at, new.updated_at, new.revision) == ("ada", 5.0, 5.0, 1)
    assert new.autoscaling == AutoscalingPolicy(
        scale_up_window_s=1.0,
        scale_down_window_s=2.0,
        scale_to_zero_window_s=300.0,
        load_targets={LoadTarget.CONCURRENT_REQUESTS: 7.0},
        scaling_schedules={"mornings": SCHEDULE},
    )
    for field in EVERYTHING.keys() & set(Deployment.__struct_fields__):
        assert getattr(new, field) == EVERYTHING[field], field
    assert made(spec(enable_addons=True)).enable_addons, "which several accelerators do not go with"


def test_what_is_not_asked_for_has_the_documented_default() -> None:
    new = made(spec())
    assert new.autoscaling == AutoscalingPolicy(
        scale_up_window_s=30.0,
        scale_down_window_s=600.0,
        scale_to_zero_window_s=3600.0,
        load_targets={LoadTarget.DEFAULT: 0.8},
    )
    assert new.auto_delete_s == AUTO_DELETE_S
    assert new.expires_at is None
    assert (new.shape, new.shape_preset, new.kv_cache_fraction, new.draft_model) == (None, None, None, None)
    assert (new.enable_session_affinity, new.enable_addons, new.is_pinned, new.may_evict) == (True, False, False, True)


def test_the_spec_of_a_deployment_makes_the_same_deployment() -> None:
    draft = model("acme", "apprentice")
    for new in (made(spec()), made(spec(**EVERYTHING), draft)):
        again = revised_deployment(new, spec_of(new), draft if new.draft_model else None, now=5.0)
        assert again == new


def test_a_revision_takes_over_the_named_fields_alone() -> None:
    new = made(spec(**EVERYTHING), model("acme", "apprentice"))
    asked = spec(display_name="Slow", scale_up_window_s=9.0, description="not meant")
    revised = revised_spec(new, asked, ["display_name", "scale_up_window_s", "shape", "shape_preset", "auto_delete_s"])
    changed = revised_deployment(new, revised, model("acme", "apprentice"), now=7.0)
    assert (changed.display_name, changed.description, changed.updated_at) == ("Slow", "quick", 7.0)
    assert changed.autoscaling.scale_up_window_s == 9.0
    assert changed.autoscaling.load_targets == {LoadTarget.CONCURRENT_REQUESTS: 7.0}
    assert (changed.shape, changed.shape_preset, changed.auto_delete_s) == (None, None, AUTO_DELETE_S)
    assert (changed.desired_replica_count, changed.revision) == (new.desired_replica_count, new.revision)


def test_what_became_impossible_does_not_hinder_other_changes() -> None:
    elsewhere = spec(accelerator_type="NVIDIA_B200_180GB")
    check_revision(elsewhere, msgspec.structs.replace(elsewhere, display_name="Fast"), DEVICES, SETTINGS)
    with pytest.raises(HearthError, match="displayName"):
        check_revision(elsewhere, msgspec.structs.replace(elsewhere, display_name="x" * 64), DEVICES, SETTINGS)
    with pytest.raises(HearthError, match="acceleratorType"):
        check_revision(spec(), elsewhere, DEVICES, SETTINGS)


def test_the_end_of_its_time_lies_ahead() -> None:
    check_expiry(None, now=5.0)
    check_expiry(5.5, now=5.0)
    with pytest.raises(HearthError, match="expireTime"):
        check_expiry(5.0, now=5.0)


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
        ({"accelerator_count": 3}, "acceleratorCount"),
        ({"accelerator_count": 2, "accelerator_type": L4}, "acceleratorCount"),
        ({"accelerator_count": 0}, "acceleratorCount"),
        ({"accelerator_count": 2, "enable_addons": True}, "enableAddons"),
        ({"max_context_length": 0}, "maxContextLength"),
        ({"draft_token_count": 4}, "draftTokenCount"),
        ({"draft_token_count": 0, "draft_model": "apprentice"}, "draftTokenCount"),
        ({"draft_token_count": 17, "ngram_speculation_length": 3}, "draftTokenCount"),
        ({"ngram_speculation_length": 1}, "ngramSpeculationLength"),
        ({"ngram_speculation_length": 17}, "ngramSpeculationLength"),
        ({"kv_cache_fraction": 0.0}, "kvCacheFraction"),
        ({"kv_cache_fraction": 1.01}, "kvCacheFraction"),
        ({"auto_delete_s": -1.0}, "unusedAutoDeleteDuration"),
        ({"scale_to_zero_window_s": 299.0}, "autoscalingPolicy.scaleToZeroWindow"),
        (
            {"scaling_schedules": {"x": msgspec.structs.replace(SCHEDULE, min_replica_count=2)}},
            "autoscalingPolicy.scalingSchedules.x.minReplicaCount",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(HearthError) as caught:
        check_spec(spec(**changes), DEVICES, SETTINGS)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, param)


def test_an_accelerator_that_is_not_here_is_refused_with_those_that_are() -> None:
    check_spec(spec(accelerator_type=L4), DEVICES, SETTINGS)
    with pytest.raises(HearthError, match="there is NVIDIA_H100_80GB, NVIDIA_L4_24GB") as caught:
        check_spec(spec(accelerator_type="AMD_MI300X_192GB"), DEVICES, SETTINGS)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "acceleratorType")


def test_a_replica_may_lie_on_several_devices_where_its_heads_can_be_divided() -> None:
    gpus = [msgspec.structs.replace(device, is_cuda=True) for device in DEVICES]
    for devices in (DEVICES, gpus):
        check_spec(spec(accelerator_count=2), devices, SETTINGS)
    check_model(spec(accelerator_count=2), POET)
    with pytest.raises(HearthError, match="attention heads") as caught:
        check_model(spec(accelerator_count=5), POET)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "acceleratorCount")


def test_a_model_that_is_not_ready_cannot_be_deployed() -> None:
    with pytest.raises(HearthError) as caught:
        check_model(spec(), model("acme", "poet", state=ModelState.UPLOADING))
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_precision_must_be_prepared() -> None:
    with pytest.raises(HearthError, match=r"FP8.*:prepare") as caught:
        check_model(spec(precision=Precision.FP8), POET)
    assert (caught.value.code, caught.value.param) == (Code.FAILED_PRECONDITION, "precision")
    prepared = Preparation(state=PreparationState.READY, info=POET.llm_info)
    check_model(spec(precision=Precision.FP8), replace(POET, preparations={Precision.FP8: prepared}))


def test_a_context_longer_than_the_models_is_refused() -> None:
    check_model(spec(max_context_length=512), POET)
    with pytest.raises(HearthError, match="512") as caught:
        check_model(spec(max_context_length=513), POET)
    assert caught.value.param == "maxContextLength"


def test_speculation_is_kept_as_asked_for_with_the_draft_models_full_name() -> None:
    apprentice = model("acme", "apprentice")
    asked = spec(draft_model="apprentice", draft_token_count=6, ngram_speculation_length=3)
    check_spec(asked, DEVICES, SETTINGS)
    check_draft_model(asked, POET, apprentice)
    new = made(asked, apprentice)
    assert (new.draft_model, new.draft_token_count, new.ngram_speculation_length) == (apprentice.name, 6, 3)


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
