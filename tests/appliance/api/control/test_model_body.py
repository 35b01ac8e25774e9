import pytest

from appliance.api.control.model_body import ConversationConfigBody, DateBody, ModelBody, PeftDetailsBody, read_ask
from appliance.domain import ModelKind
from appliance.errors import HearthError
from appliance.services.models import NOTHING
from models.fireworks_json import ConversationConfig


def test_what_is_left_out_is_not_asked_for() -> None:
    assert read_ask(ModelBody()).given() == []
    assert read_ask(ModelBody(kind="KIND_UNSPECIFIED", peft_details=PeftDetailsBody())).given() == []


def test_fields_are_read_as_they_are_meant() -> None:
    ask = read_ask(
        ModelBody(
            kind="HF_PEFT_ADDON",
            public=True,
            peft_details=PeftDetailsBody(base_model="base", r=8),
            deprecation_date=DateBody(year=2030, month=4),
            supports_tools=False,
        )
    )
    assert (ask.kind, ask.is_public, ask.base_model) == (ModelKind.HF_PEFT_ADDON, True, "base")
    assert (ask.deprecation_date, ask.found) == ("2030-04-00", {"supportsTools": False})
    assert read_ask(ModelBody(deprecation_date=DateBody())).deprecation_date == ""


@pytest.mark.parametrize(
    ("body", "config"),
    [
        (ConversationConfigBody(template="x"), ConversationConfig(template="x")),
        (ConversationConfigBody(system="s"), ConversationConfig(system="s")),
        (ConversationConfigBody(), NOTHING),
        (ConversationConfigBody(style=""), NOTHING),
        (ConversationConfigBody(style="llama"), ConversationConfig(style="llama")),
    ],
)
def test_a_config_that_says_nothing_takes_the_config_away(
    body: ConversationConfigBody, config: ConversationConfig
) -> None:
    assert read_ask(ModelBody(conversation_config=body)).conversation_config == config


def test_kinds_that_are_not_served_are_refused_by_name() -> None:
    for kind in ("SNAPSHOT_MODEL", "DRAFT_ADDON", "LIVE_MERGE", "nonsense"):
        with pytest.raises(HearthError) as caught:
            read_ask(ModelBody(kind=kind), "model.")
        assert caught.value.param == "model.kind"
