"""What chat and text completions have in common: the fields of the request and their checks.

Each field that the API names is carried out or refused by name; one that the API does not name, or that has nothing
to act on here, is ignored and said so in a response header. Knows no shape of a response (`rendering.py`).
"""

import math
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec
from aiohttp import web

from appliance.api.codec import Int64, decode_json, ignored_fields, read_body
from appliance.api.data.reasoning import REASONING_FIELDS, ReasoningEffort, ReasoningHistory, Thinking
from appliance.api.data.response_format import ResponseFormat
from appliance.api.routing import request_id
from appliance.config import LimitSettings
from appliance.errors import Code, HearthError
from appliance.services.generation import Constraint, Generation, Prompt

IGNORED_FIELDS_HEADER = "hearth-ignored-fields"
COLD_START_WAIT_HEADER = "hearth-cold-start-wait"
COLD_START_WAIT_MAX_S = 3600.0
SESSION_AFFINITY_HEADER = "x-session-affinity"
ISOLATION_KEY_HEADER = "x-prompt-cache-isolation-key"

WHOLE_PROMPT = 2**31 - 1
"""More tokens than any prompt has."""

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
AdditivePenalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
CountOrZero = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
LogitBias = Annotated[float, msgspec.Meta(ge=-200, le=200)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class PredictionPart(msgspec.Struct):
    text: str
    type: Literal["text"] = "text"


class Prediction(msgspec.Struct):
    content: str | list[PredictionPart]
    type: Literal["content"] = "content"


class GenerationBody(msgspec.Struct, kw_only=True):
    """Fields of both routes."""

    has_turns: ClassVar[bool] = False
    """Whether a chat template is rendered, on which the fields of reasoning act."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None

    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    context_length_exceeded_behavior: Literal["error", "truncate"] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    ignore_eos: bool | None = None

    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    frequency_penalty: AdditivePenalty | None = None
    presence_penalty: AdditivePenalty | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    mirostat_target: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    mirostat_lr: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    logit_bias: dict[TokenId, LogitBias] | None = None
    seed: Int64 | None = None

    logprobs: bool | Int64 | None = None
    top_logprobs: Int64 | None = None
    echo: bool | None = None
    echo_last: CountOrZero | None = None
    return_token_ids: bool | None = None
    raw_output: bool | None = None
    perf_metrics_in_response: bool | None = None

    prediction: str | Prediction | None = None
    speculation: str | list[TokenId] | None = None

    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    prompt_cache_max_len: CountOrZero | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    """There is one tier; the answer names it."""
    metadata: dict[str, str] | None = None

    reasoning_effort: ReasoningEffort | None = None
    reasoning_history: ReasoningHistory | None = None
    response_format: ResponseFormat | None = None
    thinking: Thinking | None = None


BodyT = TypeVar("BodyT", bound=GenerationBody)


async def decode_generation(request: web.Request, kind: type[BodyT]) -> tuple[BodyT, dict[str, str]]:
    """The body, and the response headers that say what of it was ignored."""
    raw = await read_body(request)
    body = decode_json(raw, kind)
    idle = ["metadata", *([] if kind.has_turns else REASONING_FIELDS)]
    names = [name for name in (ignored_fields(raw, kind), *(name for name in idle if getattr(body, name))) if name]
    return body, {IGNORED_FIELDS_HEADER: ", ".join(names)} if names else {}


def to_generation(
    request: web.Request,
    body: GenerationBody,
    prompts: list[Prompt],
    constraint: Constraint | None,
    limits: LimitSettings,
) -> Generation:
    """The checked request; raises `invalid` naming the field."""
    return Generation(
        request_id=request_id(request),
        model=body.model,
        prompts=prompts,
        num_choices=at_most("n", body.n or 1, limits.n_max),
        max_tokens=_max_tokens(body),
        is_overflow_refused=body.context_length_exceeded_behavior == "error",
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        typical_p=body.typical_p,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        repetition_penalty=body.repetition_penalty,
        mirostat_target=body.mirostat_target,
        mirostat_lr=body.mirostat_lr,
        logit_bias=_no_longer("logit_bias", body.logit_bias or {}, limits.logit_bias_max),
        seed=body.seed,
        stop=check_stops(body.stop, limits),
        stop_token_ids=_no_longer("stop_token_ids", body.stop_token_ids or [], limits.stop_token_ids_max),
        ignore_eos=bool(body.ignore_eos),
        num_logprobs=_num_logprobs(body, limits.logprobs_max),
        num_echoed_tokens=_num_echoed_tokens(body),
        shows_prompt=bool(body.return_token_ids or body.raw_output),
        constraint=constraint,
        prediction=_prediction(body),
        affinity_key=request.headers.get(SESSION_AFFINITY_HEADER) or body.prompt_cache_key or body.user,
        isolation_key=body.prompt_cache_isolation_key or request.headers.get(ISOLATION_KEY_HEADER),
        cache_max_tokens=body.prompt_cache_max_len,
        cold_start_wait_s=cold_start_wait_s(request),
    )


def invalid(param: str, message: str) -> HearthError:
    return HearthError(Code.INVALID, f"{param}: {message}", param)


def unsupported(param: str) -> HearthError:
    return HearthError(Code.INVALID, f"`{param}` is not supported by this version", param)


def at_most(param: str, value: int, maximum: int) -> int:
    if value > maximum:
        raise invalid(param, f"must be at most {maximum}")
    return value


SizedT = TypeVar("SizedT", list[int], dict[int, float])


def _no_longer(param: str, value: SizedT, maximum: int) -> SizedT:
    if len(value) > maximum:
        raise invalid(param, f"must have at most {maximum} tokens")
    return value


def _max_tokens(body: GenerationBody) -> int | None:
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise invalid("max_completion_tokens", "is another name of max_tokens; give one of them")
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def check_stops(stop: str | list[str] | None, limits: LimitSettings, name: str = "stop") -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > limits.stop_max:
        raise invalid(name, f"must have at most {limits.stop_max} strings")
    for index, text in enumerate(stops):
        param = name if isinstance(stop, str) else f"{name}[{index}]"
        if not text:
            raise invalid(param, "must not be empty")
        if len(text) > limits.stop_length_max:
            raise invalid(param, f"must have at most {limits.stop_length_max} characters")
    return stops


def _num_logprobs(body: GenerationBody, maximum: int) -> int | None:
    """`true` asks for the newer form, with `top_logprobs` alternatives; a number k for the older one with k."""
    if body.top_logprobs and body.logprobs is not True:
        raise invalid("top_logprobs", "needs logprobs to be true")
    if body.logprobs is None or body.logprobs is False:
        return None
    param = "top_logprobs" if body.logprobs is True else "logprobs"
    count = (body.top_logprobs or 0) if body.logprobs is True else body.logprobs
    if count < 0:
        raise invalid(param, "must not be negative")
    return at_most(param, count, maximum)


def _num_echoed_tokens(body: GenerationBody) -> int | None:
    """`echo_last` is enough to ask for an echo, and 0 to do without."""
    if body.echo_last is not None:
        return body.echo_last or None
    return WHOLE_PROMPT if body.echo else None


def _prediction(body: GenerationBody) -> str | list[int]:
    """`speculation` is another name of `prediction` that takes tokens as well."""
    if body.prediction is not None and body.speculation is not None:
        raise invalid("speculation", "says the same as prediction; give one of them")
    if not isinstance(body.prediction, Prediction):
        return body.prediction or body.speculation or ""
    content = body.prediction.content
    return content if isinstance(content, str) else "".join(part.text for part in content)


def cold_start_wait_s(request: web.Request) -> float | None:
    text = request.headers.get(COLD_START_WAIT_HEADER)
    if text is None:
        return None
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = math.nan
    if not 0 <= wait_s <= COLD_START_WAIT_MAX_S:
        raise invalid(COLD_START_WAIT_HEADER, f"must be a number of seconds, 0 to {COLD_START_WAIT_MAX_S:.0f}")
    return wait_s
