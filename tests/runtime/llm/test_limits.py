import math
from typing import Any

import msgspec
import pytest

from runtime.engine import RequestRefused
from runtime.llm.limits import NUM_CHOICES_MAX, NUM_STOPS_MAX, STOP_LENGTH_MAX, check_limits, normalise
from runtime.protocol import FailureCode, SamplingParams, Submit, TextPrompt

VOCAB_SIZE = 50


def submit(**fields: Any) -> Submit:
    return Submit(request_id="r", prompt=TextPrompt(text="x"), **fields)


@pytest.mark.parametrize(
    ("param", "values"),
    [
        ("temperature", [-0.1, 101.0, 1e308, math.nan, math.inf, -math.inf]),
        ("top_p", [-0.1, 1.1, math.nan, math.inf]),
        ("min_p", [-0.1, 1.1, math.nan]),
        ("top_k", [-1, -(2**63)]),
    ],
)
def test_sampling_out_of_bounds_is_refused_by_name(param: str, values: list[float]) -> None:
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
    ]:
        check_limits(
            submit(
                sampling=sampling,
                num_choices=NUM_CHOICES_MAX,
                max_tokens=2**63,
                num_logprobs=VOCAB_SIZE,
                stop=["x" * STOP_LENGTH_MAX] * NUM_STOPS_MAX,
            ),
            VOCAB_SIZE,
        )


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=1e-30), SamplingParams(top_p=0.0)])
def test_what_means_greedy_becomes_greedy(sampling: SamplingParams) -> None:
    assert normalise(sampling, VOCAB_SIZE) == SamplingParams(temperature=0.0)


def test_a_top_k_that_excludes_nothing_is_switched_off() -> None:
    assert normalise(SamplingParams(top_k=VOCAB_SIZE), VOCAB_SIZE).top_k == 0
    assert normalise(SamplingParams(top_k=VOCAB_SIZE - 1), VOCAB_SIZE).top_k == VOCAB_SIZE - 1
