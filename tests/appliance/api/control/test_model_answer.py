import msgspec
from msgspec.structs import replace

from appliance.api.control.model_answer import render_model
from appliance.domain import ModelState, Precision, Preparation, PreparationState
from models.fireworks_json import ConversationConfig
from models.info import Fp8Info
from tests.appliance.services.samples import INFO, addon, model

POET = model("acme", "poet")


def test_a_model_says_what_its_files_can_do_within_what_its_owner_allows() -> None:
    shown = render_model(replace(POET, context_length=100, info=replace(INFO, supports_tools=True), size_bytes=5))
    assert (shown.context_length, shown.supports_tools, shown.size_bytes) == (100, True, "5")
    assert shown.precisions == ["BF16", "FP16", "FP32"]


def test_a_model_that_waits_for_its_files_promises_nothing() -> None:
    shown = render_model(replace(POET, state=ModelState.UPLOADING, info=None))
    assert (shown.precisions, shown.supports_tools, shown.supports_lora, shown.context_length) == (
        None,
        False,
        False,
        None,
    )


def test_what_is_prepared_is_a_precision_and_what_is_not_yet_a_message() -> None:
    info = POET.llm_info
    assert info is not None
    under_way = replace(POET, preparations={Precision.FP8: Preparation(state=PreparationState.PREPARING)})
    shown = render_model(under_way, progress={Precision.FP8: 40})
    assert shown.status.message == "PREPARING for FP8: 40 %"
    assert shown.precisions == ["BF16", "FP16", "FP32"]
    failed = Preparation(state=PreparationState.FAILED, message="no room")
    shown = render_model(replace(POET, preparations={Precision.FP8: failed}))
    assert shown.status.message == "could not be prepared for FP8: no room"
    done = Preparation(state=PreparationState.READY, info=info)
    shown = render_model(replace(POET, preparations={Precision.FP8: done}))
    assert (shown.status.message, shown.precisions) == ("", ["BF16", "FP16", "FP32", "FP8"])


def test_a_checkpoint_that_was_uploaded_in_8_bits_is_served_so_by_default() -> None:
    fp8 = Fp8Info(layout="row", num_parameters=1, num_staying_parameters=1, num_staying_rows=1)
    shown = render_model(replace(POET, info=replace(INFO, fp8=fp8)))
    assert shown.base_model_details is not None
    assert shown.base_model_details.default_precision == "FP8"
    assert shown.precisions == ["BF16", "FP16", "FP32", "FP8"]


def test_lists_leave_the_long_fields_out() -> None:
    poet = replace(POET, info=replace(INFO, file_sha256={"b": "2", "a": "1"}), deprecation_date="2030-01-00")
    short = msgspec.to_builtins(render_model(poet))
    long = msgspec.to_builtins(render_model(poet, [], ConversationConfig(template="x")))
    assert "deployedModelRefs" not in short
    assert "conversationConfig" not in short
    assert "huggingfaceFiles" not in short["baseModelDetails"]
    assert long["baseModelDetails"]["huggingfaceFiles"] == ["a", "b"]
    assert long["conversationConfig"] == {"style": "jinja", "template": "x"}
    assert long["deprecationDate"] == {"year": 2030, "month": 1}


def test_an_addon_names_its_base_model() -> None:
    shown = render_model(addon("acme", "rhymes", POET))
    assert shown.peft_details is not None
    assert shown.peft_details.base_model == POET.name
    assert not shown.supports_lora
