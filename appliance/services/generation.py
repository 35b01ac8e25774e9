"""What one client call asks of a model, and the Submits that a worker is sent for it: defaults, names, limits.

Knows no wire format and runs nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from appliance.config import LimitSettings
from appliance.domain import Model, Principal
from appliance.errors import Code, HearthError
from runtime.protocol import Submit
from runtime.submission import (
    ChatMessage,
    ChatPrompt,
    GrammarConstraint,
    ImagePart,
    JsonConstraint,
    SamplingParams,
    TextPrompt,
    TokenPrompt,
)

Prompt = ChatPrompt | TextPrompt | TokenPrompt
Constraint = JsonConstraint | GrammarConstraint

SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "mirostat_target",
    "mirostat_lr",
)
"""Fields of a generation, by the names of SamplingParams, for which a model may have defaults."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One client call, whichever route it came by. None is "not said": the model's or the appliance's default."""

    request_id: str
    """Made by the server."""
    model: str
    """As the client names it: a model, a deployment, a deployed model or a model on a deployment."""
    prompts: Sequence[Prompt]
    num_choices: int = 1
    """Per prompt; the choices of prompt p have indexes p * num_choices and following."""
    max_tokens: int | None = None
    is_overflow_refused: bool = False
    """Refuse a `max_tokens` that does not fit the context instead of lowering it."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    mirostat_target: float | None = None
    mirostat_lr: float | None = None
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    num_logprobs: int | None = None
    num_echoed_tokens: int | None = None
    """So many of each prompt's last tokens come back ahead of each choice."""
    shows_prompt: bool = False
    """Send each prompt as the engine computed it."""
    constraint: Constraint | None = None
    prediction: str | list[int] = ""
    """What the client expects as answer: a hint for speculation."""
    affinity_key: str | None = None
    """Requests with the same one prefer the same replica; no more than a hint."""
    isolation_key: str | None = None
    """A prefix cache of its own within the account."""
    cache_max_tokens: int | None = None
    """Prompt tokens that may be taken from the prefix cache at most."""
    cold_start_wait_s: float | None = None


def cache_namespace(account_id: str, isolation_key: str | None) -> str:
    """Accounts never share prefixes. Hashed, so that no client text reaches the worker's cache."""
    parts = msgspec.json.encode([account_id, isolation_key])
    return hashlib.sha256(parts).hexdigest()


def to_submits(
    principal: Principal, generation: Generation, model: Model, limits: LimitSettings, adapter: str = ""
) -> list[Submit]:
    """One for each prompt; raises `invalid` for what this model cannot do."""
    if model.info is not None and model.llm_info is None:
        raise HearthError(Code.INVALID, f"model: {model.name} does not generate text", "model")
    num_choices = len(generation.prompts) * generation.num_choices
    if num_choices > limits.choices_max:
        message = f"n: {num_choices} choices of all prompts together, where {limits.choices_max} are allowed"
        raise HearthError(Code.INVALID, message, "n")
    _check_token_ids(generation, model)
    _check_images(generation, model)
    return [
        Submit(
            request_id=f"{generation.request_id}-{index}",
            prompt=prompt,
            adapter=adapter,
            sampling=_sampling(generation, model),
            num_choices=generation.num_choices,
            max_tokens=limits.default_max_tokens if generation.max_tokens is None else generation.max_tokens,
            # A default that does not fit is our own doing: it is lowered in silence.
            is_overflow_refused=generation.is_overflow_refused and generation.max_tokens is not None,
            stop=generation.stop,
            stop_token_ids=generation.stop_token_ids,
            ignore_eos=generation.ignore_eos,
            num_logprobs=generation.num_logprobs,
            num_echoed_tokens=generation.num_echoed_tokens,
            shows_prompt=generation.shows_prompt,
            constraint=generation.constraint,
            prediction=generation.prediction,
            cache_namespace=cache_namespace(principal.account_id, generation.isolation_key),
            cache_max_tokens=generation.cache_max_tokens,
            tenant=principal.account_id,
        )
        for index, prompt in enumerate(generation.prompts)
    ]


def _sampling(generation: Generation, model: Model) -> SamplingParams:
    """What the request says, else the model's own default, else neutral."""
    defaults = {} if model.llm_info is None else model.llm_info.default_sampling
    chosen: dict[str, Any] = {name: defaults[name] for name in SAMPLING_FIELDS if name in defaults}
    chosen |= {name: said for name in SAMPLING_FIELDS if (said := getattr(generation, name)) is not None}
    if "top_k" in chosen:
        chosen["top_k"] = int(chosen["top_k"])  # defaults are all floats
    return SamplingParams(**chosen, logit_bias=generation.logit_bias, seed=generation.seed)


def _check_images(generation: Generation, model: Model) -> None:
    """Images for a model that reads text only are refused before anything is woken for them."""
    if model.llm_info is None or model.llm_info.vision is not None:
        return
    for prompt in generation.prompts:
        match prompt:
            case TextPrompt(images=[_, *_]):
                param = "images"
            case ChatPrompt(messages=messages) if any(map(_has_image, messages)):
                param = "messages"
            case _:
                continue
        raise HearthError(Code.INVALID, f"{param}: the model {generation.model[:200]!r} does not take images", param)


def _has_image(message: ChatMessage) -> bool:
    return isinstance(message.content, list) and any(isinstance(part, ImagePart) for part in message.content)


def _check_token_ids(generation: Generation, model: Model) -> None:
    """A token that the model does not have is refused before anything is woken for it."""
    if model.llm_info is None:
        return
    prediction = generation.prediction
    used: list[tuple[str, Iterable[int]]] = [
        ("prompt", prompt.token_ids) for prompt in generation.prompts if isinstance(prompt, TokenPrompt)
    ]
    used += [
        ("logit_bias", generation.logit_bias),
        ("stop_token_ids", generation.stop_token_ids),
        ("speculation", prediction if isinstance(prediction, list) else []),
    ]
    for param, token_ids in used:
        highest = max(token_ids, default=0)
        if highest >= model.llm_info.vocab_size:
            message = f"{param}: token id {highest} is outside of the model's vocabulary"
            raise HearthError(Code.INVALID, message, param)
