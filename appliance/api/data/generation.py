"""What chat and text completions have in common: the fields of the request, their checks, and the usage.

Each field that the API names is carried out, or refused by name unless its value changes nothing; a field that the
API does not name is ignored, and said so in a response header. Knows no shape of a response (`rendering.py`).
"""

import math
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from appliance.api.codec import Int64, decode_json, ignored_fields, read_body
from appliance.api.routing import request_id
from appliance.config import LimitSettings
from appliance.errors import Code, HearthError
from appliance.services.inference import Generation, Prompt

IGNORED_FIELDS_HEADER = "hearth-ignored-fields"
COLD_START_WAIT_HEADER = "hearth-cold-start-wait"
COLD_START_WAIT_MAX_S = 3600.0
SESSION_AFFINITY_HEADER = "x-session-affinity"

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]

NO_OP_VALUES: dict[str, tuple[object, ...]] = {
    "context_length_exceeded_behavior": ("truncate",),
    "echo": (False,),
    "echo_last": (0,),
    "frequency_penalty": (0,),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "ignore_eos": (False,),
    "images": ([],),
    "logit_bias": ({},),
    "mirostat_lr": (),
    "mirostat_target": (),
    "parallel_tool_calls": (True, False),
    "perf_metrics_in_response": (False,),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_max_len": (),
    "prompt_truncate_len": (),
    "raw_output": (False,),
    "reasoning_effort": ("none", False),
    "reasoning_history": ("disabled",),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "return_token_ids": (False,),
    "safe_tokenization": (False,),
    "service_tier": ("auto", "default"),
    "speculation": (),
    "thinking": ({"type": "disabled"},),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
    "typical_p": (1,),
}
"""Fields that this version does not carry out, each with the values, beside null, that ask for nothing."""


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class GenerationBody(msgspec.Struct, kw_only=True):
    """Fields of both routes. `Any` stands where a value is only compared with what is a no-op."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    min_p: Probability | None = None
    n: Count | None = None
    stop: str | list[str] | None = None
    seed: Int64 | None = None
    logprobs: bool | Int64 | None = None
    top_logprobs: Int64 | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    metadata: dict[str, str] | None = None

    context_length_exceeded_behavior: Any = None
    echo: Any = None
    echo_last: Any = None
    frequency_penalty: Any = None
    ignore_eos: Any = None
    logit_bias: Any = None
    mirostat_lr: Any = None
    mirostat_target: Any = None
    perf_metrics_in_response: Any = None
    prediction: Any = None
    presence_penalty: Any = None
    prompt_cache_max_len: Any = None
    raw_output: Any = None
    reasoning_effort: Any = None
    reasoning_history: Any = None
    repetition_penalty: Any = None
    response_format: Any = None
    return_token_ids: Any = None
    service_tier: Any = None
    speculation: Any = None
    thinking: Any = None
    typical_p: Any = None


BodyT = TypeVar("BodyT", bound=GenerationBody)


async def decode_generation(request: web.Request, kind: type[BodyT]) -> tuple[BodyT, dict[str, str]]:
    """The body, and the response headers that say what of it was ignored."""
    raw = await read_body(request)
    body = decode_json(raw, kind)
    names = ignored_fields(raw, kind)
    return body, {IGNORED_FIELDS_HEADER: names} if names else {}


def to_generation(
    request: web.Request, body: GenerationBody, prompts: list[Prompt], limits: LimitSettings
) -> Generation:
    """The checked request; raises `invalid` naming the field."""
    _refuse_unsupported(body)
    return Generation(
        request_id=request_id(request),
        model=body.model,
        prompts=prompts,
        num_choices=at_most("n", body.n or 1, limits.n_max),
        max_tokens=_max_tokens(body),
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=body.seed,
        stop=_stop(body.stop, limits),
        num_logprobs=_num_logprobs(body, limits.logprobs_max),
        affinity_key=request.headers.get(SESSION_AFFINITY_HEADER) or body.prompt_cache_key or body.user,
        isolation_key=body.prompt_cache_isolation_key,
        cold_start_wait_s=_cold_start_wait_s(request),
    )


def invalid(param: str, message: str) -> HearthError:
    return HearthError(Code.INVALID, f"{param}: {message}", param)


def unsupported(param: str) -> HearthError:
    return HearthError(Code.INVALID, f"`{param}` is not supported by this version", param)


def at_most(param: str, value: int, maximum: int) -> int:
    if value > maximum:
        raise invalid(param, f"must be at most {maximum}")
    return value


def _refuse_unsupported(body: GenerationBody) -> None:
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is not None and name in NO_OP_VALUES and value not in NO_OP_VALUES[name]:
            raise unsupported(name)


def _max_tokens(body: GenerationBody) -> int | None:
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise invalid("max_completion_tokens", "is another name of max_tokens; give one of them")
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def _stop(stop: str | list[str] | None, limits: LimitSettings) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > limits.stop_max:
        raise invalid("stop", f"must have at most {limits.stop_max} strings")
    for index, text in enumerate(stops):
        param = "stop" if isinstance(stop, str) else f"stop[{index}]"
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


def _cold_start_wait_s(request: web.Request) -> float | None:
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
