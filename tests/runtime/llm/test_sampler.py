"""Each rule against a slow reference over one row, independence of the batch, and the distribution of many draws."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.llm.sampler import SampledRow, sample, uniforms
from runtime.protocol import SamplingParams

VOCAB_SIZE = 50


def _row(seed: int = 0, position: int = 0, num_logprobs: int | None = None, **params: Any) -> SampledRow:
    return SampledRow(SamplingParams(**params), seed, position, num_logprobs)


def _kept_slowly(logits: list[float], params: SamplingParams) -> dict[int, float]:
    """The tokens that may be drawn, with their shares, one rule after another."""
    best = max(logits)
    weights = {token: math.exp((logit - best) / params.temperature) for token, logit in enumerate(logits)}
    if params.top_k > 0:
        kth = sorted(weights.values(), reverse=True)[min(params.top_k, len(logits)) - 1]
        weights = {token: weight for token, weight in weights.items() if weight >= kth}
    if params.top_p < 1:
        total, reached, last = sum(weights.values()), 0.0, math.inf
        for weight in sorted(weights.values(), reverse=True):
            if reached >= params.top_p * total and last < math.inf:
                break
            reached, last = reached + weight, weight
        weights = {token: weight for token, weight in weights.items() if weight >= last}
    weights = {token: weight for token, weight in weights.items() if weight >= params.min_p}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


def _drawn(logits: torch.Tensor, num_draws: int, **params: Any) -> list[int]:
    rows = [_row(seed=7, position=position, **params) for position in range(num_draws)]
    return [token.token_id for token in sample(logits.expand(num_draws, -1), rows)]


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.integers(-40, 40), min_size=5, max_size=30),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 3, 8, 1000]),
    top_p=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_tokens_are_drawn_if_all_rules_keep_them_and_only_then(
    data: list[int], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = [value / 10 for value in data]
    kept = _kept_slowly(logits, params)
    rows = [SampledRow(params, 3, position, None) for position in range(300)]
    drawn = {token.token_id for token in sample(torch.tensor([logits]).expand(300, -1), rows)}
    assert drawn <= kept.keys()
    assert {token for token, share in kept.items() if share > 0.06} <= drawn, "missed with probability 1e-8"


def test_temperature_zero_takes_the_best() -> None:
    logits = torch.randn(6, VOCAB_SIZE)
    rows = [_row(seed=i, temperature=0.0, top_p=0.5) for i in range(6)]
    assert [token.token_id for token in sample(logits, rows)] == logits.argmax(dim=-1).tolist()


def test_a_tiny_temperature_takes_the_best_and_overflows_nothing() -> None:
    logits = torch.randn(1, VOCAB_SIZE) * 100
    assert set(_drawn(logits, 20, temperature=1e-30)) == {int(logits.argmax())}


def test_top_k_keeps_all_that_tie_with_the_last() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    assert set(_drawn(logits, 300, temperature=1.0, top_k=2)) == {0, 1, 2, 3}


def test_draws_follow_the_distribution() -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 12)
    num_draws = 20_000
    counts = np.bincount(_drawn(logits, num_draws, temperature=0.8), minlength=12)
    expected = (logits[0].double() / 0.8).softmax(dim=0).numpy() * num_draws
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 31.3, "11 degrees of freedom: p = 0.001"


def test_truncated_draws_follow_the_renormalised_distribution() -> None:
    logits = torch.tensor([[3.0, 2.5, 2.0, 1.0, 0.0, -1.0]])
    num_draws = 20_000
    counts = np.bincount(_drawn(logits, num_draws, temperature=1.0, top_k=3), minlength=6)
    expected = logits[0, :3].double().softmax(dim=0).numpy() * num_draws
    assert counts[3:].sum() == 0
    assert float(((counts[:3] - expected) ** 2 / expected).sum()) < 13.8, "2 degrees of freedom: p = 0.001"


PARAMS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.3, "top_k": 5},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.9, "top_p": 0.8, "top_k": 20, "min_p": 0.02},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab_size", [VOCAB_SIZE, 5000])
def test_a_row_draws_the_same_in_any_batch(vocab_size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    rows = [_row(seed=i, position=3 * i, **PARAMS[i % len(PARAMS)]) for i in range(40)]
    logits = torch.randn(40, vocab_size).mul_(3).to(dtype)
    alone = [sample(logits[i : i + 1], rows[i : i + 1])[0] for i in range(40)]
    assert sample(logits, rows) == alone
    shuffled = torch.randperm(40).tolist()
    assert sample(logits[shuffled], [rows[i] for i in shuffled]) == [alone[i] for i in shuffled]


def test_rules_that_keep_more_than_the_candidates_are_still_exact() -> None:
    flat = torch.zeros(1, 5000)
    flat[0, :3000] = 0.01
    drawn = _drawn(flat, 2000, temperature=1.0, top_p=0.3)
    assert max(drawn) < 3000
    assert len(set(drawn)) > 1000
    assert max(_drawn(flat, 2000, temperature=1.0, top_k=2500)) < 3000


def test_logprobs_are_of_the_raw_distribution() -> None:
    torch.manual_seed(3)
    logits = torch.randn(3, VOCAB_SIZE)
    rows = [
        _row(temperature=0.2, top_k=1, num_logprobs=4),
        _row(temperature=0.0),
        _row(temperature=0.0, num_logprobs=0),
    ]
    first, second, third = sample(logits, rows)
    expected = logits.log_softmax(dim=-1)
    assert first.logprob == pytest.approx(float(expected[0, first.token_id]), abs=1e-5)
    assert [token for token, _ in first.top] == expected[0].topk(4).indices.tolist()
    assert [value for _, value in first.top] == pytest.approx(expected[0].topk(4).values.tolist(), abs=1e-5)
    assert (second.logprob, second.top) == (None, [])
    assert third.logprob == pytest.approx(float(expected[2].max()), abs=1e-5)
    assert third.top == []


def test_a_row_that_is_not_a_number_still_yields_a_token() -> None:
    logits = torch.zeros(2, VOCAB_SIZE)
    logits[0] = float("nan")
    tokens = sample(logits, [_row(temperature=1.0, top_p=0.9), _row(temperature=1.0)])
    assert all(0 <= token.token_id < VOCAB_SIZE for token in tokens)


def test_uniform_numbers_differ_by_seed_and_by_position_and_fill_the_interval() -> None:
    numbers = uniforms([seed for seed in range(100) for _ in range(100)], list(range(100)) * 100)
    assert len(set(numbers.tolist())) == 10_000
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert float(((counts - 500) ** 2 / 500).sum()) < 43.8, "19 degrees of freedom: p = 0.001"
    assert uniforms([2**64 - 1], [2**40]) == uniforms([2**64 - 1], [2**40])
