"""Random requests that ask for everything at once, for a model of `tiny_llm.py`; each feature is one generator.

What a request asks for depends on the random numbers alone, so that it can be asked again, elsewhere or later.
"""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.protocol import Submit
from runtime.submission import SamplingParams, TokenPrompt
from tests.fakes.tiny_llm import END_TOKEN_ID, VOCAB_SIZE

FEATURE_PROBABILITY = 0.3
NUM_PROMPT_TOKENS_MAX = 32
NUM_NEW_TOKENS_MAX = 24
COMMON_START = [3 + i % 5 for i in range(NUM_PROMPT_TOKENS_MAX)]
"""Many prompts begin with some of it, so that their blocks meet in the cache."""
ADDONS = ["one addon", "another"]
"""Adapters that whoever serves these requests has loaded."""


class Asked(NamedTuple):
    """Fields of a Submit and of its SamplingParams."""

    submit: Mapping[str, Any] = MappingProxyType({})
    sampling: Mapping[str, Any] = MappingProxyType({})


Feature = Callable[[random.Random], Asked]


def heat(rng: random.Random) -> Asked:
    return Asked(sampling={"temperature": rng.choice([0.3, 1.0, 3.0, 100.0])})


def truncation(rng: random.Random) -> Asked:
    rules: dict[str, Any] = {"top_p": rng.random(), "top_k": rng.randrange(100), "min_p": rng.random()}
    rules["typical_p"] = rng.random()
    return Asked(sampling=dict(rng.sample(sorted(rules.items()), rng.randint(1, 3))))


def penalties(rng: random.Random) -> Asked:
    return Asked(
        sampling={
            "frequency_penalty": rng.uniform(-2, 2),
            "presence_penalty": rng.uniform(-2, 2),
            "repetition_penalty": rng.uniform(0.1, 2),
        }
    )


def biases(rng: random.Random) -> Asked:
    token_ids = rng.sample(range(VOCAB_SIZE), rng.randint(1, 60))
    return Asked(sampling={"logit_bias": {token_id: rng.choice([-100.0, -1.0, 1.0, 100.0]) for token_id in token_ids}})


def mirostat(rng: random.Random) -> Asked:
    return Asked(sampling={"temperature": 1.0, "mirostat_target": rng.uniform(1, 20), "mirostat_lr": rng.random()})


def logprobs(rng: random.Random) -> Asked:
    return Asked({"num_logprobs": rng.randrange(6)})


def echo(rng: random.Random) -> Asked:
    return Asked({"num_echoed_tokens": rng.randrange(NUM_PROMPT_TOKENS_MAX), "shows_prompt": rng.random() < 0.5})


def choices(rng: random.Random) -> Asked:
    return Asked({"num_choices": rng.randint(2, 4)}, {"temperature": 1.5})


def stops(rng: random.Random) -> Asked:
    return Asked({"stop": rng.sample(["e", "th", " ", "the", "\n"], rng.randint(1, 3))})


def stop_tokens(rng: random.Random) -> Asked:
    return Asked({"stop_token_ids": rng.sample(range(VOCAB_SIZE), 40), "ignore_eos": rng.random() < 0.5})


def prediction(rng: random.Random) -> Asked:
    return Asked({"prediction": [rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(1, 12))]})


def cache_limit(rng: random.Random) -> Asked:
    return Asked({"cache_max_tokens": rng.randrange(NUM_PROMPT_TOKENS_MAX)})


def addon(rng: random.Random) -> Asked:
    return Asked({"adapter": rng.choice(ADDONS)})


FEATURES: list[Feature] = [
    heat,
    truncation,
    penalties,
    biases,
    mirostat,
    logprobs,
    echo,
    choices,
    stops,
    stop_tokens,
    prediction,
    cache_limit,
    addon,
]


def draw_submit(rng: random.Random, request_id: str) -> Submit:
    asked = [feature(rng) for feature in FEATURES if rng.random() < FEATURE_PROBABILITY]
    sampling: dict[str, Any] = {"temperature": 0.0, "seed": rng.randrange(2**63)}
    fields: dict[str, Any] = {"max_tokens": rng.randint(1, NUM_NEW_TOKENS_MAX)}
    for each in asked:
        fields |= each.submit
        sampling |= each.sampling
    return Submit(
        request_id=request_id,
        prompt=TokenPrompt(token_ids=_prompt(rng)),
        sampling=SamplingParams(**sampling),
        cache_namespace=rng.choice(["", "", "a", "b"]),
        tenant=rng.choice(["a", "b", "c"]),
        **fields,
    )


def _prompt(rng: random.Random) -> list[int]:
    num_tokens = rng.randint(1, NUM_PROMPT_TOKENS_MAX)
    num_common = rng.choice([0, rng.randrange(num_tokens), num_tokens])
    return COMMON_START[:num_common] + [rng.randrange(VOCAB_SIZE) for _ in range(num_tokens - num_common)]


class ScatteredConstraint:
    """Allows a third of the vocabulary, another at each token; breaks, if told to, when asked for a later mask."""

    def __init__(self, seed: int, breaks_at: int | None = None) -> None:
        self._seed = seed
        self._breaks_at = breaks_at
        self._accepted: list[int] = []

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        if self._breaks_at is not None and len(self._accepted) >= self._breaks_at:
            raise RuntimeError("this constraint is broken")
        token_ids = np.arange(len(mask) * 32)
        mask[:] = np.packbits(self._allows(token_ids), bitorder="little").view(np.int32)
        return True

    def accept(self, token_id: int) -> None:
        if not self._allows(np.array(token_id)):
            raise ValueError(f"token {token_id} is not allowed")
        self._accepted.append(token_id)

    def roll_back(self, num_tokens: int) -> None:
        del self._accepted[len(self._accepted) - num_tokens :]

    @property
    def is_complete(self) -> bool:
        return False

    def _allows(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        is_third = (token_ids + self._seed + len(self._accepted)) % 3 == 0
        allowed: NDArray[np.bool_] = is_third | (token_ids == END_TOKEN_ID)
        return allowed
