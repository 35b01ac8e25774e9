"""A model as clients write it: what may be said of one when it is made or changed."""

from enum import StrEnum
from typing import Annotated

import msgspec

from appliance.api.control.wire import NotServed, Wire, is_neutral, parse_enum
from appliance.domain import ModelKind
from appliance.services.model_spec import ModelAsk
from models.fireworks_json import JINJA, ConversationConfig

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class CheckpointFormat(StrEnum):
    HUGGINGFACE = "HUGGINGFACE"


class BaseModelDetailsBody(Wire, frozen=True, kw_only=True):
    """What inspection finds by itself is ignored here."""

    checkpoint_format: str | None = None
    tunable: NotServed = None
    supports_mtp: NotServed = None


class PeftDetailsBody(Wire, frozen=True, kw_only=True):
    """Rank and layers are what inspection finds; what is said of them here is ignored."""

    base_model: str | None = None
    r: int | None = None
    target_modules: list[str] | None = None
    merge_addon_model_name: NotServed = None


class ConversationConfigBody(Wire, frozen=True, kw_only=True):
    """The model's fireworks.json, as far as it tells how conversations become prompts."""

    style: Annotated[str, msgspec.Meta(description="`jinja`, or empty to take the config away.")] = JINJA
    system: Annotated[
        str | None, msgspec.Meta(description="What a conversation begins with that has no system message of its own.")
    ] = None
    template: Annotated[
        str | None, msgspec.Meta(description="A chat template in Jinja; without one the model's own stays.")
    ] = None


class DateBody(Wire, frozen=True, kw_only=True):
    """A date, a year and a month, or a year: what is not significant is 0."""

    year: Annotated[int, msgspec.Meta(ge=0, le=9999)] = 0
    month: Annotated[int, msgspec.Meta(ge=0, le=12)] = 0
    day: Annotated[int, msgspec.Meta(ge=0, le=31)] = 0


class ModelBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    description: str | None = None
    kind: str | None = None
    public: bool | None = None
    base_model_details: BaseModelDetailsBody | None = None
    peft_details: PeftDetailsBody | None = None
    conversation_config: ConversationConfigBody | None = None
    context_length: Annotated[
        Count | None,
        msgspec.Meta(description="Most tokens that deployments may serve; 0: as many as the checkpoint reaches."),
    ] = None
    default_draft_model: Annotated[
        str | None, msgspec.Meta(description="Guesses ahead on new deployments that name no draft model themselves.")
    ] = None
    default_draft_token_count: Count | None = None
    deprecation_date: DateBody | None = None
    github_url: str | None = None
    hugging_face_url: str | None = None
    supports_image_input: Annotated[
        bool | None,
        msgspec.Meta(description="Found by inspection: may be said, not changed; so are the next three."),
    ] = None
    supports_tools: bool | None = None
    supports_lora: bool | None = None
    use_hf_apply_chat_template: bool | None = None
    snapshot_type: NotServed = None
    teft_details: NotServed = None
    training_context_length: NotServed = None


def read_ask(body: ModelBody, prefix: str = "") -> ModelAsk:
    """`prefix`: how the model is spelled in a body that it is a member of."""
    details = body.base_model_details or BaseModelDetailsBody()
    parse_enum(CheckpointFormat, details.checkpoint_format, f"{prefix}baseModelDetails.checkpointFormat")
    found = {
        "supportsImageInput": body.supports_image_input,
        "supportsTools": body.supports_tools,
        "supportsLora": body.supports_lora,
        "useHfApplyChatTemplate": body.use_hf_apply_chat_template,
    }
    return ModelAsk(
        display_name=body.display_name,
        description=body.description,
        kind=parse_enum(ModelKind, body.kind, f"{prefix}kind"),
        is_public=body.public,
        base_model=(body.peft_details.base_model or None) if body.peft_details else None,
        context_length=body.context_length,
        default_draft_model=body.default_draft_model,
        default_draft_token_count=body.default_draft_token_count,
        github_url=body.github_url,
        hugging_face_url=body.hugging_face_url,
        deprecation_date=None if body.deprecation_date is None else _date(body.deprecation_date),
        conversation_config=None if body.conversation_config is None else _config(body.conversation_config),
        found={name: said for name, said in found.items() if said is not None},
    )


def _date(body: DateBody) -> str:
    return f"{body.year:04}-{body.month:02}-{body.day:02}" if any((body.year, body.month, body.day)) else ""


def _config(body: ConversationConfigBody) -> ConversationConfig:
    is_nothing = is_neutral(body.style) or not (body.system or body.template)
    style = "" if is_nothing and body.style in ("", JINJA) else body.style
    return ConversationConfig(style=style, template=body.template or None, system=body.system or None)
