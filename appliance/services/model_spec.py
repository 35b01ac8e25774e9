"""What a client may say of a model, and the rules for each field. Pure.

What inspection finds by itself (kinds of layers, tools, images) is not said but found; who says it of a READY model
must say the truth.
"""

import re
from datetime import date
from urllib.parse import urlsplit

import msgspec

from appliance.domain import Model, ModelKind
from appliance.errors import Code, HearthError
from appliance.services.deployment_spec import DRAFT_TOKEN_COUNT_MAX
from models.fireworks_json import ConversationConfig
from models.info import AddonInfo, AnyServedInfo, DiffusionInfo, EmbeddingInfo, ModelInfo, WhisperInfo
from models.tokenizer_files import TOKENIZER

DISPLAY_NAME_LENGTH_MAX = 63
DESCRIPTION_LENGTH_MAX = 1000
URL_LENGTH_MAX = 2000
BASE_MODEL = "peftDetails.baseModel"
DRAFT_MODEL, DRAFT_TOKEN_COUNT = "defaultDraftModel", "defaultDraftTokenCount"

_PLAIN_FIELDS = {
    "displayName": "display_name",
    "description": "description",
    "public": "is_public",
    "contextLength": "context_length",
    "githubUrl": "github_url",
    "huggingFaceUrl": "hugging_face_url",
    "deprecationDate": "deprecation_date",
    DRAFT_MODEL: "default_draft_model",
    DRAFT_TOKEN_COUNT: "default_draft_token_count",
}
"""Wire names, and where a row keeps them."""
_OPTIONAL = {"context_length", "deprecation_date", "default_draft_model", "default_draft_token_count"}
"""A row has None where nothing is said."""


class ModelAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Fields as a client gives them: None is not given; an empty text, a 0 and an empty config take away."""

    display_name: str | None = None
    description: str | None = None
    kind: ModelKind | None = None
    is_public: bool | None = None
    base_model: str | None = None
    """Of an addon: what it changes; any form of a name."""
    context_length: int | None = None
    default_draft_model: str | None = None
    default_draft_token_count: int | None = None
    github_url: str | None = None
    hugging_face_url: str | None = None
    deprecation_date: str | None = None
    conversation_config: ConversationConfig | None = None
    found: dict[str, bool] = {}
    """What only inspection decides, by wire name, as the client believes it to be."""

    def given(self) -> list[str]:
        """Wire names of all that is given."""
        plain = [path for path, name in _PLAIN_FIELDS.items() if getattr(self, name) is not None]
        others = {"kind": self.kind, BASE_MODEL: self.base_model, "conversationConfig": self.conversation_config}
        return [*plain, *(path for path, value in others.items() if value is not None), *self.found]


def check_ask(ask: ModelAsk) -> None:
    """All that can be said without a row."""
    _check_length(ask.display_name, DISPLAY_NAME_LENGTH_MAX, "displayName")
    _check_length(ask.description, DESCRIPTION_LENGTH_MAX, "description")
    _check_url(ask.github_url, "githubUrl")
    _check_url(ask.hugging_face_url, "huggingFaceUrl")
    _check_date(ask.deprecation_date)
    if ask.context_length is not None and ask.context_length < 0:
        raise invalid("contextLength", "more than 0, or 0 for as much as the checkpoint allows")
    count = ask.default_draft_token_count
    if count is not None and not 0 <= count <= DRAFT_TOKEN_COUNT_MAX:
        raise invalid(DRAFT_TOKEN_COUNT, f"between 1 and {DRAFT_TOKEN_COUNT_MAX}, or 0 for none")


def changed_model(model: Model, ask: ModelAsk) -> Model:
    """The row with all plain fields of `ask` in it; whether its files allow it is for others to say."""
    given = {name: value for name in _PLAIN_FIELDS.values() if (value := getattr(ask, name)) is not None}
    changes = {name: value or None if name in _OPTIONAL else value for name, value in given.items()}
    return msgspec.structs.replace(model, **changes)


def check_same(model: Model, ask: ModelAsk, base_model: str | None) -> None:
    """What cannot change may be said again; `base_model` is the full name that `ask.base_model` means."""
    if ask.kind is not None and ask.kind not in (model.kind, _usual(model.kind)):
        raise invalid("kind", f"{model.name} is a {model.kind} and stays one; create a new model")
    if ask.base_model and base_model != model.base_model:
        raise invalid(BASE_MODEL, f"{model.name} is made for {model.base_model or 'nothing'} and stays so")
    check_found(model, ask)


def check_found(model: Model, ask: ModelAsk) -> None:
    """Of a model that was inspected; before that nobody knows."""
    truth = found_of(model)
    for name, said in ask.found.items():
        if name in truth and truth[name] is not said:
            word = "does" if truth[name] else "does not"
            raise invalid(name, f"inspection found that {model.name} {word}; this cannot be set")


def found_of(model: Model) -> dict[str, bool]:
    """By wire name; empty before inspection."""
    if model.info is None:
        return {} if model.addon_info is None else {"supportsLora": False}
    llm = model.llm_info
    if llm is None:
        names = ("supportsImageInput", "supportsTools", "useHfApplyChatTemplate")
        return dict.fromkeys(names, False) | {"supportsLora": isinstance(model.info, DiffusionInfo)}
    return {
        "supportsImageInput": llm.vision is not None,
        "supportsTools": llm.supports_tools,
        "supportsLora": True,
        "useHfApplyChatTemplate": llm.has_chat_template,
    }


KIND_OF: dict[type[AnyServedInfo], ModelKind] = {
    ModelInfo: ModelKind.HF_BASE_MODEL,
    EmbeddingInfo: ModelKind.EMBEDDING_MODEL,
    WhisperInfo: ModelKind.CUSTOM_MODEL,
    DiffusionInfo: ModelKind.FLUMINA_BASE_MODEL,
}


def kind_found(model: Model, found: AnyServedInfo | AddonInfo, base: Model | None) -> ModelKind:
    """What inspection says it is. Clients that know one kind of base model and one of addon call every one so; who
    says anything else must say the truth."""
    if isinstance(found, AddonInfo):
        is_of_language = base is not None and isinstance(base.info, ModelInfo)
        kind = ModelKind.HF_PEFT_ADDON if is_of_language else ModelKind.FLUMINA_ADDON
    else:
        kind = KIND_OF[type(found)]
    if model.kind not in (kind, _usual(model.kind)):
        raise invalid("kind", f"inspection found that {model.name} is a {kind}, not a {model.kind}; create a new model")
    return kind


def _usual(kind: ModelKind) -> ModelKind:
    """What clients say that know only two."""
    return ModelKind.HF_PEFT_ADDON if kind.is_addon else ModelKind.HF_BASE_MODEL


def check_against_files(model: Model) -> None:
    """What is asked of the row, once inspection knows what its files can do."""
    if model.context_length is None:
        return
    if model.base_model is not None:
        raise invalid("contextLength", "an addon is served with its base model's")
    if isinstance(model.info, WhisperInfo | DiffusionInfo):
        raise invalid("contextLength", f"{model.name} reads no text that it could bound")
    if model.info is not None and model.context_length > model.info.max_context_length:
        raise invalid("contextLength", f"the checkpoint reaches {model.info.max_context_length} tokens")


def check_draft(model: Model, draft: Model | None) -> None:
    """`draft`: the model that its default draft model names."""
    if draft is None:
        if model.default_draft_token_count is not None:
            raise invalid(DRAFT_TOKEN_COUNT, f"only with {DRAFT_MODEL}")
        return
    if model.base_model is not None:
        raise invalid(DRAFT_MODEL, "an addon is served with its base model's")
    if draft.name == model.name:
        raise invalid(DRAFT_MODEL, "a model does not guess for itself")
    guess = draft.llm_info
    if draft.base_model is not None or guess is None:
        raise invalid(DRAFT_MODEL, f"{draft.name} is no language model that is READY")
    if model.is_public and not draft.is_public and draft.account_id == model.account_id:
        raise invalid(DRAFT_MODEL, f"{draft.name} is not public as {model.name} is, so others could not deploy both")
    if model.info is None or model.served_info is None:
        return
    if model.llm_info is None:
        raise invalid(DRAFT_MODEL, f"{model.name} is no language model")
    has_same_tokenizer = guess.file_sha256.get(TOKENIZER) == model.info.file_sha256.get(TOKENIZER)
    if guess.vocab_size != model.llm_info.vocab_size and not has_same_tokenizer:
        rule = f"{draft.name} has {guess.vocab_size} token ids, {model.name} {model.llm_info.vocab_size}"
        raise invalid(DRAFT_MODEL, rule)
    if guess.max_context_length < model.served_info.max_context_length:
        rule = (
            f"{draft.name} reaches {guess.max_context_length} tokens,"
            f" {model.name} {model.served_info.max_context_length}; set contextLength lower"
        )
        raise invalid(DRAFT_MODEL, rule)


def invalid(param: str, rule: str) -> HearthError:
    return HearthError(Code.INVALID, f"{param}: {rule}", param)


def _check_length(text: str | None, length_max: int, param: str) -> None:
    if text is not None and len(text) > length_max:
        raise invalid(param, f"at most {length_max} characters, has {len(text)}")


def _check_url(text: str | None, param: str) -> None:
    if not text:
        return
    _check_length(text, URL_LENGTH_MAX, param)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise invalid(param, "is no URL") from error
    if parts.scheme != "https" or not parts.hostname or not text.isprintable() or " " in text:
        raise invalid(param, "expected the https:// address of a page")


def _check_date(text: str | None) -> None:
    """A full date, a year, or a year and a month: what is not significant is 0."""
    if not text:
        return
    match = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", text)
    assert match is not None, "made from three numbers"
    year, month, day = (int(number) for number in match.groups())
    try:
        date(year, month or 1, day or 1)
    except ValueError as error:
        raise invalid("deprecationDate", f"{text} is in no calendar") from error
    if day and not month:
        raise invalid("deprecationDate", "a day needs its month")
