"""What one call may ask of the engine, checked in the worker whatever the daemon has checked before.

The bounds here protect the worker; what a client may ask is the daemon's to say, and is less.
"""

from typing import NoReturn

import msgspec

from runtime.engine import RequestRefused
from runtime.protocol import FailureCode, SamplingParams, Submit

NUM_CHOICES_MAX = 1024
NUM_LOGPROBS_MAX = 100
NUM_STOPS_MAX = 64
STOP_LENGTH_MAX = 4096
TEMPERATURE_MAX = 100.0
TEMPERATURE_MIN = 1e-4
"""Below it every other token's probability is nothing, and dividing by it may overflow: the same as greedy."""


def check_limits(submit: Submit, vocab_size: int) -> None:
    """Raise RequestRefused naming the first field that is out of bounds."""
    sampling = submit.sampling
    if not 1 <= submit.num_choices <= NUM_CHOICES_MAX:
        _refuse("n", f"must be between 1 and {NUM_CHOICES_MAX}")
    if submit.max_tokens is not None and submit.max_tokens < 1:
        _refuse("max_tokens", "must be at least 1")
    # Written so that NaN, which compares as false, is refused.
    if not 0 <= sampling.temperature <= TEMPERATURE_MAX:
        _refuse("temperature", f"must be between 0 and {TEMPERATURE_MAX:g}")
    if not 0 <= sampling.top_p <= 1:
        _refuse("top_p", "must be between 0 and 1")
    if not 0 <= sampling.min_p <= 1:
        _refuse("min_p", "must be between 0 and 1")
    if sampling.top_k < 0:
        _refuse("top_k", "must be at least 0")
    if submit.num_logprobs is not None and not 0 <= submit.num_logprobs <= min(NUM_LOGPROBS_MAX, vocab_size):
        _refuse("logprobs", f"must be between 0 and {min(NUM_LOGPROBS_MAX, vocab_size)}")
    if len(submit.stop) > NUM_STOPS_MAX:
        _refuse("stop", f"must have at most {NUM_STOPS_MAX} strings")
    if not all(1 <= len(stop) <= STOP_LENGTH_MAX for stop in submit.stop):
        _refuse("stop", f"must have strings of 1 to {STOP_LENGTH_MAX} characters")


def normalise(sampling: SamplingParams, vocab_size: int) -> SamplingParams:
    """The same choice of tokens in values that the sampler can take at their word."""
    is_greedy = sampling.temperature < TEMPERATURE_MIN or sampling.top_p == 0
    return msgspec.structs.replace(
        sampling,
        temperature=0.0 if is_greedy else sampling.temperature,
        top_p=sampling.top_p or 1.0,
        top_k=sampling.top_k if sampling.top_k < vocab_size else 0,
    )


def _refuse(param: str, rule: str) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, f"{param} {rule}", param)
