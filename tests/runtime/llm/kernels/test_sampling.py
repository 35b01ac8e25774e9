"""The kernels keep, forbid and draw exactly what the plain rules do: to the bit, where a row is a row of numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from runtime.llm.kernels import sampling
from runtime.llm.sampler import SampledRow, processed_probabilities, sample
from runtime.llm.sampling.adjustments import adjust
from runtime.llm.sampling.columns import Columns
from runtime.llm.sampling.draw import draw
from runtime.llm.sampling.weights import kept_weights
from runtime.submission import SamplingParams
from tests.fakes.triton_device import DEVICE

PARAMS: list[dict[str, Any]] = [
    {},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 10**6},
    {"top_p": 0.95},
    {"top_p": 0.3, "temperature": 0.5},
    {"top_p": 0.0},
    {"top_p": 0.999},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"top_k": 7, "top_p": 0.8, "min_p": 0.02},
    {"top_k": 3, "top_p": 0.5},
    {"top_p": 0.9, "mirostat_target": 3.0},
    {"top_p": 0.9, "typical_p": 0.6},
]


def make_logits(kind: str, vocab_size: int) -> torch.Tensor:
    torch.manual_seed(vocab_size)
    logits = torch.randn(len(PARAMS), vocab_size, device=DEVICE)
    if kind == "steep":
        return logits * 12
    if kind == "with ties":
        return (logits * 3).round()
    return torch.zeros_like(logits) if kind == "flat" else logits


def rows_of(params: list[dict[str, Any]]) -> list[SampledRow]:
    return [SampledRow(SamplingParams(**own), seed, 3 * seed, None) for seed, own in enumerate(params)]


@pytest.mark.parametrize(
    ("kind", "vocab_size"), [("plain", 2500), ("steep", 2048), ("steep", 50), ("with ties", 50), ("flat", 2500)]
)
def test_rows_keep_the_tokens_and_draw_the_token_of_the_plain_rules(kind: str, vocab_size: int) -> None:
    logits, rows = make_logits(kind, vocab_size), rows_of(PARAMS)
    columns = Columns(logits, rows)
    plain, kept = kept_weights(logits, columns), kept_weights(logits, columns, sampling)
    assert torch.equal(kept, plain)
    lowest = torch.zeros_like(columns.uniform)
    for shares in (columns.uniform, lowest, lowest + (1 - 2.0**-53)):
        assert torch.equal(draw(kept, shares, sampling), draw(plain, shares))


def test_many_seeds_draw_the_tokens_of_the_plain_rules() -> None:
    torch.manual_seed(0)
    params = SamplingParams(top_p=0.9, top_k=30)
    rows = [SampledRow(params, seed, 5, None) for seed in range(16)]
    logits = torch.randn(16, 600, device=DEVICE)
    assert sample(logits, rows, sampling).tokens() == sample(logits, rows).tokens()
    assert torch.equal(processed_probabilities(logits, rows, sampling), processed_probabilities(logits, rows))


@pytest.mark.parametrize("vocab_size", [33, 4100])
def test_masks_forbid_what_the_plain_rule_forbids(vocab_size: int) -> None:
    generator = np.random.default_rng(vocab_size)
    num_words = -(-vocab_size // 32)
    masks = [generator.integers(-(2**31), 2**31, num_words, dtype=np.int32) for _ in range(4)]
    masks[1] = masks[1][:1]  # what lies behind its end is forbidden
    masks[2][:] = 0  # leaves nothing, so it does not count
    rows = [SampledRow(SamplingParams(), 0, 0, None, mask) for mask in masks]
    rows.insert(1, SampledRow(SamplingParams(logit_bias={3: 2.0}), 0, 0, None))
    logits = torch.randn(len(rows), vocab_size, device=DEVICE)
    logits[4, ::3] = math.nan
    logits[0, 5] = math.inf
    found, expected = adjust(logits.clone(), rows, sampling), adjust(logits.clone(), rows)
    assert torch.equal(found.nan_to_num(nan=7.0), expected.nan_to_num(nan=7.0))


@pytest.mark.parametrize(
    ("value", "is_whole_row"), [(math.nan, False), (math.inf, False), (-math.inf, True), (math.nan, True)]
)
def test_a_row_that_is_no_number_yields_the_token_of_the_plain_rules_and_touches_no_other(
    value: float, is_whole_row: bool
) -> None:
    logits, rows = make_logits("plain", 50), rows_of(PARAMS)
    logits[::2, slice(None) if is_whole_row else 20] = value
    plain = [token.token_id for token in sample(logits, rows).tokens()]
    found = [token.token_id for token in sample(logits, rows, sampling).tokens()]
    assert found[1::2] == plain[1::2]
    assert found == plain
