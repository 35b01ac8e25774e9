"""The sampler as a whole: the order of the rules, independence of the batch, and the distribution of many draws."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.llm.sampler import SampledRow, draw, processed_probabilities, sample, uniforms
from runtime.llm.sampling.token_counts import TokenCounts
from runtime.submission import SamplingParams
from tests.runtime.llm.sampling import reference

VOCAB_SIZE = 50
PROMPT, OUTPUT = [1, 2, 3], [3, 4, 4]
ALLOWED = set(range(0, 48, 3))


def _row(
    seed: int = 0, position: int = 0, num_logprobs: int | None = None, *, is_masked: bool = False, **params: Any
) -> SampledRow:
    sampling = SamplingParams(**params)
    counts = TokenCounts.of(sampling, PROMPT)
    if counts is not None:
        counts.catch_up(OUTPUT)
    mask: NDArray[np.int32] | None = None
    if is_masked:
        bits = np.isin(np.arange(64), list(ALLOWED))
        mask = np.packbits(bits, bitorder="little").view(np.int32)
    return SampledRow(sampling, seed, position, num_logprobs, mask, counts)


def _drawn(logits: torch.Tensor, num_draws: int, **params: Any) -> list[int]:
    rows = [_row(seed=7, position=position, **params) for position in range(num_draws)]
    return [token.token_id for token in sample(logits.expand(num_draws, -1), rows).tokens()]


PARAMS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.3, "top_k": 5},
    {"is_masked": True},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.0, "is_masked": True},
    {"frequency_penalty": 1.5, "presence_penalty": -0.5, "logit_bias": {4: 5.0, 11: 5.0}},
    {"temperature": 0.9, "top_p": 0.8, "top_k": 20, "min_p": 0.02},
    {"temperature": 0.0, "repetition_penalty": 2.0, "logit_bias": {9: 0.5}},
    {"mirostat_target": 2.0, "is_masked": True},
    {"typical_p": 0.6, "repetition_penalty": 0.8},
    {"mirostat_target": 3.0},
]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), chosen=st.lists(st.sampled_from(PARAMS), min_size=1, max_size=9))
def test_rows_are_drawn_from_what_the_slow_reference_says(seed: int, chosen: list[dict[str, Any]]) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(chosen), VOCAB_SIZE, generator=generator) * 2
    rows = [_row(**params) for params in chosen]
    found = processed_probabilities(logits, rows)
    tokens = sample(logits, rows).tokens()
    for index, row in enumerate(rows):
        expected = reference.distribution(
            logits[index].tolist(),
            row.params,
            prompt=PROMPT,
            output=OUTPUT,
            allowed=ALLOWED if row.mask is not None else None,
        )
        np.testing.assert_allclose(found[index].numpy(), expected, atol=2e-5)
        assert found[index, tokens[index].token_id] > 0


def test_temperature_zero_takes_the_best() -> None:
    logits = torch.randn(6, VOCAB_SIZE)
    rows = [_row(seed=i, temperature=0.0, top_p=0.5) for i in range(6)]
    assert [token.token_id for token in sample(logits, rows).tokens()] == logits.argmax(dim=-1).tolist()
    assert torch.equal(processed_probabilities(logits, rows), torch.eye(VOCAB_SIZE)[logits.argmax(dim=-1)])


@pytest.mark.parametrize(
    "params",
    [{"temperature": 0.8}, {"top_k": 3}, {"typical_p": 0.7, "frequency_penalty": 0.5, "logit_bias": {2: 1.0}}],
    ids=str,
)
def test_draws_follow_the_distribution(params: dict[str, Any]) -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 12)
    num_draws = 20_000
    expected = processed_probabilities(logits, [_row(**params)])[0].double().numpy() * num_draws
    counts = np.bincount(_drawn(logits, num_draws, **params), minlength=12)
    is_kept = expected > 0
    assert counts[~is_kept].sum() == 0
    chi_square = float(((counts - expected)[is_kept] ** 2 / expected[is_kept]).sum())
    assert chi_square < 31.3, "at most 11 degrees of freedom: p = 0.001"


def test_whoever_draws_from_the_probabilities_gets_the_sampled_tokens() -> None:
    torch.manual_seed(9)
    rows = [_row(seed=i, position=3 * i, **PARAMS[i % len(PARAMS)]) for i in range(40)]
    logits = torch.randn(40, VOCAB_SIZE) * 2
    uniform = uniforms([row.seed for row in rows], [row.position for row in rows])
    again = draw(processed_probabilities(logits, rows), torch.from_numpy(uniform))
    assert again.tolist() == [token.token_id for token in sample(logits, rows).tokens()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab_size", [VOCAB_SIZE, 3000])
def test_a_row_draws_the_same_in_any_batch(vocab_size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    rows = [_row(seed=i, position=3 * i, **PARAMS[i % len(PARAMS)]) for i in range(40)]
    logits = torch.randn(40, vocab_size).mul_(3).to(dtype)
    alone = [sample(logits[i : i + 1], rows[i : i + 1]).tokens()[0] for i in range(40)]
    assert sample(logits, rows).tokens() == alone
    shuffled = torch.randperm(40).tolist()
    assert sample(logits[shuffled], [rows[i] for i in shuffled]).tokens() == [alone[i] for i in shuffled]


def test_a_seed_gives_the_same_token_at_any_place_of_a_batch_and_another_seed_another() -> None:
    logits = torch.zeros(1, 5000)
    token_ids = [
        token.token_id for token in sample(logits.expand(9, -1), [_row(seed=i % 3) for i in range(9)]).tokens()
    ]
    assert token_ids == token_ids[:3] * 3
    assert len(set(token_ids)) == 3


def test_logits_are_left_as_they_were() -> None:
    logits = torch.randn(len(PARAMS), VOCAB_SIZE)
    before = logits.clone()
    rows = [_row(**params) for params in PARAMS]
    sample(logits, rows).tokens()
    processed_probabilities(logits, rows)
    assert torch.equal(logits, before)


def test_logprobs_are_of_the_raw_distribution() -> None:
    torch.manual_seed(3)
    logits = torch.randn(4, VOCAB_SIZE)
    rows = [
        _row(temperature=0.2, top_k=1, num_logprobs=4),
        _row(temperature=0.0),
        _row(temperature=0.0, num_logprobs=0),
        _row(temperature=0.0, num_logprobs=2, is_masked=True, logit_bias={9: 50.0}),
    ]
    first, second, third, fourth = sample(logits, rows).tokens()
    expected = logits.log_softmax(dim=-1)
    assert first.logprob == pytest.approx(float(expected[0, first.token_id]), abs=1e-5)
    assert [token for token, _ in first.top] == expected[0].topk(4).indices.tolist()
    assert (second.logprob, second.top) == (None, [])
    assert third.logprob == pytest.approx(float(expected[2].max()), abs=1e-5)
    assert third.top == []
    assert fourth.token_id == 9
    assert fourth.logprob == pytest.approx(float(expected[3, 9]), abs=1e-5)
    assert [token for token, _ in fourth.top] == expected[3].topk(2).indices.tolist()


def test_only_mirostat_rows_come_with_a_mu_and_it_follows_the_token() -> None:
    torch.manual_seed(4)
    logits = torch.randn(4, VOCAB_SIZE)
    rows = [
        _row(temperature=0.8, mirostat_target=2.0),
        _row(),
        _row(mirostat_target=2.0, temperature=0.0),
        _row(mirostat_target=2.0, mirostat_lr=0.5, is_masked=True)._replace(mirostat_mu=3.0),
    ]
    tokens = sample(logits, rows).tokens()
    assert [token.mirostat_mu is None for token in tokens] == [False, True, True, False]
    surprise = -float((logits[0] / 0.8).log_softmax(dim=0)[tokens[0].token_id]) / math.log(2)
    assert tokens[0].mirostat_mu == pytest.approx(4.0 - 0.1 * (surprise - 2.0), abs=1e-4)
    masked = torch.tensor(reference.adjust(logits[3].tolist(), rows[3].params, allowed=ALLOWED))
    surprise = -float(masked.log_softmax(dim=0)[tokens[3].token_id]) / math.log(2)
    assert tokens[3].mirostat_mu == pytest.approx(3.0 - 0.5 * (surprise - 2.0), abs=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_no_number_still_yields_a_token_and_touches_no_other(value: float) -> None:
    torch.manual_seed(5)
    rows = [_row(seed=i, **params) for i, params in enumerate(PARAMS)]
    logits = torch.randn(len(rows), VOCAB_SIZE)
    expected = sample(logits, rows).tokens()
    for broken in range(len(rows)):
        damaged = logits.clone()
        damaged[broken] = value
        tokens = sample(damaged, rows).tokens()
        assert 0 <= tokens[broken].token_id < VOCAB_SIZE
        assert tokens[:broken] + tokens[broken + 1 :] == expected[:broken] + expected[broken + 1 :]
