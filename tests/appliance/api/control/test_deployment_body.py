import msgspec

from appliance.api.control.deployment_body import DeploymentBody, PlacementBody, read_spec
from appliance.services.deployment_spec import SPEC_FIELDS, DeploymentSpec


def test_every_field_of_a_spec_can_be_asked_for_and_updated_by_its_wire_name() -> None:
    assert {*SPEC_FIELDS.values(), "shape_preset"} == {*DeploymentSpec.__struct_fields__}, "the shape says its preset"
    known = {field.encode_name for field in msgspec.structs.fields(DeploymentBody)}
    assert {path.partition(".")[0] for path in SPEC_FIELDS} <= known


def test_zero_and_empty_ask_for_nothing() -> None:
    empty = DeploymentBody(
        base_model="m",
        display_name="",
        annotations={},
        accelerator_type="ACCELERATOR_TYPE_UNSPECIFIED",
        accelerator_count=0,
        precision="PRECISION_UNSPECIFIED",
        max_context_length=0,
        draft_model="",
        draft_token_count=0,
        ngram_speculation_length=0,
        placement=PlacementBody(),
        deployment_shape="",
        kv_cache_fraction=0.0,
        unused_auto_delete_duration="",
    )
    assert read_spec(empty) == DeploymentSpec(base_model="m")


def test_zero_is_a_choice_where_it_means_something() -> None:
    spec = read_spec(
        DeploymentBody(
            base_model="m", max_replica_count=0, unused_auto_delete_duration="0s", enable_session_affinity=False
        )
    )
    assert (spec.max_replica_count, spec.auto_delete_s, spec.enable_session_affinity) == (0, 0.0, False)
