"""A model as clients see it."""

from collections.abc import Iterator, Mapping, Sequence

from appliance.api.control.deployed_models import DeployedModelRef, render_ref
from appliance.api.control.model_body import CheckpointFormat
from appliance.api.control.wire import Answer, Status, render_time
from appliance.domain import DeployedModel, Model, Precision, PreparationState
from appliance.services.model_spec import found_of
from models.fireworks_json import ConversationConfig as StatedConfig
from models.info import AnyServedInfo, ModelInfo

PRECISIONS = {"bfloat16": "BF16", "float16": "FP16", "float32": "FP32"}


class BaseModelDetails(Answer, frozen=True, kw_only=True):
    checkpoint_format: str
    model_type: str
    parameter_count: str
    default_precision: str
    world_size: int
    huggingface_files: list[str] | None = None
    """Filled where one model is asked for, not in lists."""


class PeftDetails(Answer, frozen=True, kw_only=True):
    base_model: str
    r: int | None = None
    target_modules: list[str] | None = None


class ConversationConfig(Answer, frozen=True, kw_only=True):
    style: str
    system: str | None = None
    template: str | None = None


class Date(Answer, frozen=True, kw_only=True):
    year: int = 0
    month: int = 0
    day: int = 0


class ModelAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    kind: str
    state: str
    status: Status
    public: bool
    context_length: int | None = None
    base_model_details: BaseModelDetails | None = None
    peft_details: PeftDetails | None = None
    conversation_config: ConversationConfig | None = None
    """Filled where one model is asked for, not in lists."""
    default_draft_model: str | None = None
    default_draft_token_count: int | None = None
    default_sampling_params: dict[str, float] | None = None
    deprecation_date: Date | None = None
    github_url: str = ""
    hugging_face_url: str = ""
    imported_from: str = ""
    precisions: list[str] | None = None
    """What a deployment can ask for now."""
    size_bytes: str
    use_hf_apply_chat_template: bool | None = None
    supports_image_input: bool
    supports_tools: bool
    supports_lora: bool
    supports_serverless: bool
    deployed_model_refs: list[DeployedModelRef] | None = None
    """Filled where one model is asked for, not in lists."""
    create_time: str | None = None
    update_time: str | None = None


def render_model(
    model: Model,
    places: Sequence[DeployedModel] | None = None,
    config: StatedConfig | None = None,
    progress: Mapping[Precision, int] = {},
) -> ModelAnswer:
    """`places`: where it is served, if that is to be shown; then the other long fields are, too. `progress`: of its
    preparations, in percent."""
    info, found = model.served_info, found_of(model)
    return ModelAnswer(
        name=model.name,
        display_name=model.display_name,
        description=model.description,
        kind=model.kind,
        state=model.state,
        status=Status(message=model.status_message or "; ".join(_preparations_in_words(model, progress))),
        public=model.is_public,
        context_length=info.max_context_length if info else model.context_length,
        base_model_details=_render_details(info, is_whole=places is not None) if info else None,
        peft_details=_render_peft_details(model),
        conversation_config=_render_config(config) if config else None,
        default_draft_model=model.default_draft_model,
        default_draft_token_count=model.default_draft_token_count,
        default_sampling_params=info.default_sampling if isinstance(info, ModelInfo) else None,
        deprecation_date=_render_date(model.deprecation_date) if model.deprecation_date else None,
        github_url=model.github_url,
        hugging_face_url=model.hugging_face_url,
        imported_from=model.imported_from,
        precisions=list(model.precisions) if info else None,
        size_bytes=str(model.size_bytes),
        use_hf_apply_chat_template=found.get("useHfApplyChatTemplate"),
        supports_image_input=found.get("supportsImageInput", False),
        supports_tools=found.get("supportsTools", False),
        supports_lora=found.get("supportsLora", False),
        supports_serverless=model.is_serverless,
        deployed_model_refs=None if places is None else [render_ref(place) for place in places],
        create_time=render_time(model.created_at),
        update_time=render_time(model.updated_at),
    )


def _preparations_in_words(model: Model, progress: Mapping[Precision, int]) -> Iterator[str]:
    for precision, preparation in model.preparations.items():
        match preparation.state:
            case PreparationState.PREPARING:
                yield f"PREPARING for {precision}: {progress.get(precision, 0)} %"
            case PreparationState.FAILED:
                yield f"could not be prepared for {precision}: {preparation.message}"


def _render_details(info: AnyServedInfo, is_whole: bool) -> BaseModelDetails:
    return BaseModelDetails(
        checkpoint_format=CheckpointFormat.HUGGINGFACE,
        model_type=info.model_type,
        parameter_count=str(info.num_parameters),
        default_precision=_default_precision(info),
        world_size=1,
        huggingface_files=sorted(info.file_sha256) if is_whole else None,
    )


def _default_precision(info: AnyServedInfo) -> str:
    if isinstance(info, ModelInfo) and info.fp8 is not None:
        return Precision.FP8
    return PRECISIONS.get(info.dtype, "PRECISION_UNSPECIFIED")


def _render_peft_details(model: Model) -> PeftDetails | None:
    if model.base_model is None:
        return None
    addon = model.addon_info
    return PeftDetails(
        base_model=model.base_model,
        r=addon.rank if addon else None,
        target_modules=addon.target_modules if addon else None,
    )


def _render_config(config: StatedConfig) -> ConversationConfig:
    return ConversationConfig(style=config.style, system=config.system, template=config.template)


def _render_date(text: str) -> Date:
    year, month, day = (int(number) for number in text.split("-"))
    return Date(year=year, month=month, day=day)
