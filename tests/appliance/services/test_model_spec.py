import pytest
from msgspec.structs import replace

from appliance.domain import ModelKind
from appliance.errors import HearthError
from appliance.services.model_spec import (
    ModelAsk,
    changed_model,
    check_against_files,
    check_ask,
    check_draft,
    check_same,
    found_of,
    kind_found,
)
from models.fireworks_json import ConversationConfig
from models.info import WhisperInfo
from tests.appliance.services.samples import INFO, addon, model

POET = model("acme", "poet")


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (ModelAsk(display_name="x" * 64), "displayName"),
        (ModelAsk(description="x" * 1001), "description"),
        (ModelAsk(github_url="http://plain"), "githubUrl"),
        (ModelAsk(github_url="https://"), "githubUrl"),
        (ModelAsk(github_url="https://[x"), "githubUrl"),
        (ModelAsk(hugging_face_url="https://a b"), "huggingFaceUrl"),
        (ModelAsk(hugging_face_url=f"https://h/{'x' * 2000}"), "huggingFaceUrl"),
        (ModelAsk(deprecation_date="2027-02-30"), "deprecationDate"),
        (ModelAsk(deprecation_date="2027-00-03"), "deprecationDate"),
        (ModelAsk(deprecation_date="0000-01-01"), "deprecationDate"),
        (ModelAsk(context_length=-1), "contextLength"),
        (ModelAsk(default_draft_token_count=17), "defaultDraftTokenCount"),
    ],
)
def test_a_field_that_cannot_be_so_is_named(ask: ModelAsk, param: str) -> None:
    with pytest.raises(HearthError) as caught:
        check_ask(ask)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize("date", ["2028-02-29", "2028-02-00", "2028-00-00", ""])
def test_dates_may_leave_out_what_is_not_significant(date: str) -> None:
    check_ask(ModelAsk(deprecation_date=date))


def test_only_what_is_given_changes_and_its_names_are_known() -> None:
    ask = ModelAsk(display_name="New", conversation_config=ConversationConfig(), found={"supportsTools": False})
    assert changed_model(POET, ask) == replace(POET, display_name="New")
    assert ask.given() == ["displayName", "conversationConfig", "supportsTools"]
    assert changed_model(POET, ModelAsk()) == POET
    assert ModelAsk().given() == []


def test_what_inspection_found_is_told() -> None:
    assert found_of(replace(POET, info=None)) == {}
    assert found_of(replace(POET, info=replace(INFO, supports_tools=True))) == {
        "supportsImageInput": False,
        "supportsTools": True,
        "supportsLora": True,
        "useHfApplyChatTemplate": True,
    }


def test_a_model_reaches_as_far_as_its_checkpoint() -> None:
    check_against_files(replace(POET, context_length=INFO.max_context_length))
    for wrong in (
        replace(POET, context_length=INFO.max_context_length + 1),
        replace(addon("acme", "rhymes", POET), context_length=1),
    ):
        with pytest.raises(HearthError):
            check_against_files(wrong)


def test_a_draft_model_of_another_width_is_taken_when_the_tokenizer_is_the_same() -> None:
    files = {"tokenizer.json": "the same"}
    wide = replace(POET, info=replace(INFO, vocab_size=320, file_sha256=files))
    narrow = replace(model("acme", "small"), info=replace(INFO, vocab_size=300, file_sha256=files))
    check_draft(wide, narrow)
    other = replace(narrow, info=replace(INFO, vocab_size=300, file_sha256={"tokenizer.json": "another"}))
    with pytest.raises(HearthError):
        check_draft(wide, other)


def test_the_usual_kind_becomes_what_was_found_and_any_other_must_be_it() -> None:
    whisper = WhisperInfo(
        architecture="",
        model_type="whisper",
        dtype="int8",
        num_parameters=1,
        weight_bytes=1,
        max_context_length=448,
        is_multilingual=True,
        num_mel_bins=80,
        num_encoder_layers=1,
        num_decoder_layers=1,
        hidden_size=64,
    )
    assert kind_found(POET, INFO, None) is ModelKind.HF_BASE_MODEL
    assert kind_found(POET, whisper, None) is ModelKind.CUSTOM_MODEL
    assert kind_found(replace(POET, kind=ModelKind.CUSTOM_MODEL), whisper, None) is ModelKind.CUSTOM_MODEL
    ear = replace(POET, kind=ModelKind.CUSTOM_MODEL, info=whisper)
    for said in (ModelKind.CUSTOM_MODEL, ModelKind.HF_BASE_MODEL):
        check_same(ear, ModelAsk(kind=said), None)
    with pytest.raises(HearthError):
        check_same(ear, ModelAsk(kind=ModelKind.EMBEDDING_MODEL), None)
    for wrong in (ModelKind.EMBEDDING_MODEL, ModelKind.FLUMINA_BASE_MODEL):
        with pytest.raises(HearthError) as caught:
            kind_found(replace(POET, kind=wrong), whisper, None)
        assert caught.value.param == "kind"
    with pytest.raises(HearthError) as caught:
        check_against_files(replace(POET, info=whisper, context_length=100))
    assert caught.value.param == "contextLength"
    assert found_of(replace(POET, info=whisper))["supportsLora"] is False
