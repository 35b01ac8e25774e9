"""Each rule, and rules together, against the slow reference and against what transformers does."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from runtime.llm.sampling.columns import Columns
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.sampling.weights import kept_weights, tempered_weights
from runtime.submission import SamplingParams
from tests.runtime.llm.sampling import reference

NO_TOKENS = torch.zeros(1, 0, dtype=torch.long)


def shares(logits: torch.Tensor, params: SamplingParams, mu: float | None = None) -> np.ndarray[Any, Any]:
    rows = [SampledRow(params, 0, 0, None, mirostat_mu=mu)] * len(logits)
    weights = kept_weights(logits, Columns(logits, rows)).double()
    result: np.ndarray[Any, Any] = (weights / weights.sum(dim=-1, keepdim=True)).numpy()
    return result


@settings(deadline=None)
@given(
    data=st.lists(st.integers(-400, 400), min_size=1, max_size=30, unique=True),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 3, 8, 1000]),
    top_p=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    typical_p=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    mirostat=st.sampled_from([None, 0.0, 1.0, 2.5]),
)
def test_rules_together_are_what_the_slow_reference_says(
    data: list[int],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    typical_p: float,
    mirostat: float | None,
) -> None:
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        mirostat_target=mirostat,
    )
    logits = [value / 97 for value in data]
    expected = reference.distribution(logits, params)
    np.testing.assert_allclose(shares(torch.tensor([logits]), params)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("params", "warpers"),
    [
        ({"temperature": 0.6}, [TemperatureLogitsWarper(0.6)]),
        ({"top_k": 7}, [TopKLogitsWarper(7)]),
        ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
        ({"min_p": 0.03}, [MinPLogitsWarper(0.03)]),
        ({"typical_p": 0.4}, [TypicalLogitsWarper(0.4)]),
        ({"typical_p": 0.95}, [TypicalLogitsWarper(0.95)]),
        (
            {"temperature": 1.4, "typical_p": 0.9, "top_k": 300, "top_p": 0.7, "min_p": 0.2},
            [
                TemperatureLogitsWarper(1.4),
                TypicalLogitsWarper(0.9),
                TopKLogitsWarper(300),
                TopPLogitsWarper(0.7),
                MinPLogitsWarper(0.2),
            ],
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_rules_are_those_of_transformers(params: dict[str, Any], warpers: list[Any]) -> None:
    torch.manual_seed(7)
    logits = torch.randn(5, 3000) * 2
    expected = LogitsProcessorList(warpers)(NO_TOKENS, logits.clone()).softmax(dim=-1)
    np.testing.assert_allclose(shares(logits, SamplingParams(**params)), expected.numpy(), atol=1e-5)


def test_mirostat_takes_the_place_of_the_other_rules() -> None:
    logits = torch.randn(1, 40)
    steered = SamplingParams(mirostat_target=2.0, temperature=0.8)
    others = SamplingParams(mirostat_target=2.0, temperature=0.8, top_k=1, top_p=0.1, min_p=0.9, typical_p=0.1)
    for mu in (None, 3.0, 1.0, -4.0):
        expected = reference.distribution(logits[0].tolist(), steered, mu=mu)
        np.testing.assert_allclose(shares(logits, steered, mu)[0], expected, atol=1e-5)
        np.testing.assert_allclose(shares(logits, others, mu)[0], expected, atol=1e-5)


def test_a_tiny_temperature_takes_the_best_and_overflows_nothing() -> None:
    logits = torch.randn(1, 50) * 100
    assert shares(logits, SamplingParams(temperature=1e-30)).argmax() == logits.argmax()
    rows = [SampledRow(SamplingParams(temperature=1e-30), 0, 0, None)]
    assert tempered_weights(logits, Columns(logits, rows)).sum() == 1


PARAMS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7, "top_p": 0.9},
    {"typical_p": 0.9, "top_p": 0.99},
    {"mirostat_target": 4.0},
    {"temperature": 1.3, "top_k": 5},
    {"min_p": 0.1},
    {"temperature": 0.9, "typical_p": 0.3},
]


@pytest.mark.parametrize("vocab_size", [50, 5000])
def test_a_row_is_the_same_in_any_batch(vocab_size: int) -> None:
    torch.manual_seed(8)
    rows = [SampledRow(SamplingParams(**params), 0, 0, None) for params in PARAMS]
    logits = torch.randn(len(rows), vocab_size) * 3
    together = kept_weights(logits, Columns(logits, rows))
    for index, row in enumerate(rows):
        own = logits[index : index + 1]
        alone = kept_weights(own, Columns(own, [row]))[0]
        # To the last bit but one: exp2 rounds differently where a vector of the CPU is not full.
        torch.testing.assert_close(alone, together[index], rtol=2e-7, atol=0)
