import math
from typing import Any

import msgspec
import pytest

from runtime.engine import RequestRefused
from runtime.llm.limits import (
    BOUNDS,
    NUM_BIASES_MAX,
    NUM_CHOICES_MAX,
    NUM_ECHOED_MAX,
    NUM_STOPS_MAX,
    REPETITION_PENALTY_MIN,
    STOP_LENGTH_MAX,
    check_echo,
    check_limits,
    normalise,
)
from runtime.message import FailureCode
from runtime.protocol import Submit
from runtime.submission import ChatPrompt, SamplingParams, TextPrompt

VOCAB_SIZE = 50


def submit(**fields: Any) -> Submit:
    return Submit(**{"request_id": "r", "prompt": TextPrompt(text="x"), **fields})


@pytest.mark.parametrize(
    ("param", "values"),
    [
        ("temperature", [-0.1, 101.0, 1e308, math.nan, math.inf, -math.inf]),
        ("top_p", [-0.1, 1.1, math.nan, math.inf]),
        ("min_p", [-0.1, 1.1, math.nan]),
        ("typical_p", [-0.1, 1.1, math.nan]),
        ("top_k", [-1, -(2**63)]),
        ("frequency_penalty", [-2.1, 2.1, 1e308, math.nan]),
        ("presence_penalty", [-2.1, 2.1, math.inf, math.nan]),
        ("repetition_penalty", [-0.1, 101.0, 1e308, math.nan]),
        ("mirostat_target", [-0.1, 1e308, math.nan, math.inf]),
        ("mirostat_lr", [-0.1, 1e308, math.nan, math.inf]),
        ("logit_bias", [{-1: 0.0}, {VOCAB_SIZE: 0.0}, {2**63: 1.0}, {3: 200.1}, {3: math.nan}, {3: -math.inf}]),
        ("logit_bias", [dict.fromkeys(range(NUM_BIASES_MAX + 1), 1.0)]),
    ],
)
def test_sampling_out_of_bounds_is_refused_by_name(param: str, values: list[object]) -> None:
    for value in values:
        sampling = msgspec.structs.replace(SamplingParams(), **{param: value})
        with pytest.raises(RequestRefused) as refusal:
            check_limits(submit(sampling=sampling), VOCAB_SIZE)
        assert (refusal.value.code, refusal.value.param) == (FailureCode.INVALID, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"num_choices": 0}, "n"),
        ({"num_choices": -1}, "n"),
        ({"num_choices": NUM_CHOICES_MAX + 1}, "n"),
        ({"num_choices": 2**63}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"num_logprobs": -1}, "logprobs"),
        ({"num_logprobs": VOCAB_SIZE + 1}, "logprobs"),
        ({"stop": ["x"] * (NUM_STOPS_MAX + 1)}, "stop"),
        ({"stop": ["fine", ""]}, "stop"),
        ({"stop": ["x" * (STOP_LENGTH_MAX + 1)]}, "stop"),
        ({"stop_token_ids": [0, -1]}, "stop_token_ids"),
        ({"stop_token_ids": [VOCAB_SIZE]}, "stop_token_ids"),
        ({"stop_token_ids": [0] * (NUM_STOPS_MAX + 1)}, "stop_token_ids"),
        ({"num_echoed_tokens": -1}, "echo_last"),
        ({"cache_max_tokens": -1}, "prompt_cache_max_len"),
        ({"prediction": [0, VOCAB_SIZE]}, "speculation"),
        ({"prompt": ChatPrompt(messages=[], max_tokens=0)}, "prompt_truncate_len"),
    ],
)
def test_fields_out_of_bounds_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        check_limits(submit(**fields), VOCAB_SIZE)
    assert (refusal.value.code, refusal.value.param) == (FailureCode.INVALID, param)


def test_the_bounds_themselves_are_allowed() -> None:
    for sampling in [
        SamplingParams(temperature=0.0, top_p=0.0, top_k=0, min_p=0.0),
        SamplingParams(temperature=100.0, top_p=1.0, top_k=2**40, min_p=1.0, seed=-(2**63)),
        SamplingParams(typical_p=0.0, frequency_penalty=-2.0, presence_penalty=-2.0, repetition_penalty=0.0),
        SamplingParams(typical_p=1.0, frequency_penalty=2.0, presence_penalty=2.0, repetition_penalty=100.0),
        SamplingParams(mirostat_target=0.0, mirostat_lr=0.0, logit_bias={0: -200.0, VOCAB_SIZE - 1: 200.0}),
    ]:
        check_limits(
            submit(
                sampling=sampling,
                num_choices=NUM_CHOICES_MAX,
                max_tokens=2**63,
                num_logprobs=VOCAB_SIZE,
                stop=["x" * STOP_LENGTH_MAX] * NUM_STOPS_MAX,
                stop_token_ids=[0, VOCAB_SIZE - 1] * (NUM_STOPS_MAX // 2),
                num_echoed_tokens=2**63,
                cache_max_tokens=0,
            ),
            VOCAB_SIZE,
        )


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=1e-30), SamplingParams(top_p=0.0)])
def test_what_means_greedy_becomes_greedy(sampling: SamplingParams) -> None:
    assert normalise(sampling, VOCAB_SIZE) == SamplingParams(temperature=0.0)


def test_a_top_k_that_excludes_nothing_is_switched_off() -> None:
    assert normalise(SamplingParams(top_k=VOCAB_SIZE), VOCAB_SIZE).top_k == 0
    assert normalise(SamplingParams(top_k=VOCAB_SIZE - 1), VOCAB_SIZE).top_k == VOCAB_SIZE - 1


def test_a_repetition_penalty_of_nothing_is_the_smallest_that_has_a_formula() -> None:
    assert normalise(SamplingParams(repetition_penalty=0.0), VOCAB_SIZE).repetition_penalty == REPETITION_PENALTY_MIN
    assert normalise(SamplingParams(), VOCAB_SIZE) == SamplingParams()


def test_every_number_of_the_sampling_params_has_bounds() -> None:
    checked_otherwise = {"top_k", "logit_bias", "seed"}
    assert {*SamplingParams.__struct_fields__} == {*BOUNDS} | checked_otherwise


@pytest.mark.parametrize(("num_logprobs", "num_per_token"), [(None, 1), (0, 2), (5, 7)])
def test_echoes_are_bounded_by_all_that_they_hold(num_logprobs: int | None, num_per_token: int) -> None:
    asking = submit(num_choices=4, num_logprobs=num_logprobs, num_echoed_tokens=2**40)
    num_allowed = NUM_ECHOED_MAX // (4 * num_per_token)
    check_echo(asking, num_allowed)
    with pytest.raises(RequestRefused) as refusal:
        check_echo(asking, num_allowed + 1)
    assert refusal.value.param == "echo"
