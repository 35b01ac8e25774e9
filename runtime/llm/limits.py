"""What one call may ask of the engine, checked in the worker whatever the daemon has checked before.

The bounds here protect the worker; what a client may ask is the daemon's to say, and is less.
"""

from collections.abc import Iterable
from typing import NoReturn

import msgspec

from runtime.engine import RequestRefused
from runtime.message import FailureCode
from runtime.protocol import Submit
from runtime.submission import ChatPrompt, SamplingParams

NUM_CHOICES_MAX = 1024
NUM_LOGPROBS_MAX = 100
NUM_STOPS_MAX = 64
STOP_LENGTH_MAX = 4096
NUM_BIASES_MAX = 1024
NUM_ECHOED_MAX = 2**18
"""Tokens and logprobs that the echoes of all choices of a call hold together: what one message can carry."""
TEMPERATURE_MAX = 100.0
TEMPERATURE_MIN = 1e-4
"""Below it every other token's probability is nothing, and dividing by it may overflow: the same as greedy."""
REPETITION_PENALTY_MIN = 1e-4
"""0 has no formula; below this a token that came before and has a positive logit wins anyway."""

BOUNDS = {
    "temperature": (0.0, TEMPERATURE_MAX),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.0, 100.0),
    "mirostat_target": (0.0, 1000.0),
    "mirostat_lr": (0.0, 100.0),
}
"""Lowest and highest of fields of SamplingParams, which clients call by the same names."""
LOGIT_BIAS_MAX = 200.0


def check_limits(submit: Submit, vocab_size: int) -> None:
    """Raise RequestRefused naming the first field that is out of bounds."""
    _check_sampling(submit.sampling, vocab_size)
    if not 1 <= submit.num_choices <= NUM_CHOICES_MAX:
        _refuse("n", f"must be between 1 and {NUM_CHOICES_MAX}")
    if submit.max_tokens is not None and submit.max_tokens < 1:
        _refuse("max_tokens", "must be at least 1")
    if submit.num_logprobs is not None and not 0 <= submit.num_logprobs <= min(NUM_LOGPROBS_MAX, vocab_size):
        _refuse("logprobs", f"must be between 0 and {min(NUM_LOGPROBS_MAX, vocab_size)}")
    if len(submit.stop) > NUM_STOPS_MAX:
        _refuse("stop", f"must have at most {NUM_STOPS_MAX} strings")
    if not all(1 <= len(stop) <= STOP_LENGTH_MAX for stop in submit.stop):
        _refuse("stop", f"must have strings of 1 to {STOP_LENGTH_MAX} characters")
    if len(submit.stop_token_ids) > NUM_STOPS_MAX:
        _refuse("stop_token_ids", f"must have at most {NUM_STOPS_MAX} tokens")
    _check_token_ids("stop_token_ids", submit.stop_token_ids, vocab_size)
    if submit.num_echoed_tokens is not None and submit.num_echoed_tokens < 0:
        _refuse("echo_last", "must be at least 0")
    if submit.cache_max_tokens is not None and submit.cache_max_tokens < 0:
        _refuse("prompt_cache_max_len", "must be at least 0")
    if isinstance(submit.prediction, list):
        _check_token_ids("speculation", submit.prediction, vocab_size)
    if isinstance(submit.prompt, ChatPrompt) and submit.prompt.max_tokens is not None and submit.prompt.max_tokens < 1:
        _refuse("prompt_truncate_len", "must be at least 1")


def check_echo(submit: Submit, num_echoed_tokens: int) -> None:
    """Raise RequestRefused if the echoes would be too large to send; the prompt's length has to be known."""
    num_per_token = 1 if submit.num_logprobs is None else 2 + submit.num_logprobs
    size = submit.num_choices * num_echoed_tokens * num_per_token
    if size > NUM_ECHOED_MAX:
        _refuse("echo", f"asks for {size} tokens and logprobs of prompts, where {NUM_ECHOED_MAX} are allowed")


def normalise(sampling: SamplingParams, vocab_size: int) -> SamplingParams:
    """The same choice of tokens in values that the sampler can take at their word."""
    is_greedy = sampling.temperature < TEMPERATURE_MIN or sampling.top_p == 0
    return msgspec.structs.replace(
        sampling,
        temperature=0.0 if is_greedy else sampling.temperature,
        top_p=sampling.top_p or 1.0,
        top_k=sampling.top_k if sampling.top_k < vocab_size else 0,
        repetition_penalty=max(sampling.repetition_penalty, REPETITION_PENALTY_MIN),
    )


def _check_sampling(sampling: SamplingParams, vocab_size: int) -> None:
    for name, (lowest, highest) in BOUNDS.items():
        value = getattr(sampling, name)
        # Written so that NaN, which compares as false, is refused.
        if value is not None and not lowest <= value <= highest:
            _refuse(name, f"must be between {lowest:g} and {highest:g}")
    if sampling.top_k < 0:
        _refuse("top_k", "must be at least 0")
    if len(sampling.logit_bias) > NUM_BIASES_MAX:
        _refuse("logit_bias", f"must have at most {NUM_BIASES_MAX} tokens")
    _check_token_ids("logit_bias", sampling.logit_bias, vocab_size)
    if not all(-LOGIT_BIAS_MAX <= bias <= LOGIT_BIAS_MAX for bias in sampling.logit_bias.values()):
        _refuse("logit_bias", f"must have values between {-LOGIT_BIAS_MAX:g} and {LOGIT_BIAS_MAX:g}")


def _check_token_ids(param: str, token_ids: Iterable[int], vocab_size: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            _refuse(param, f"must have token ids between 0 and {vocab_size - 1}, not {token_id}")


def _refuse(param: str, rule: str) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, f"{param} {rule}", param)
