import math
from typing import Any

import pytest
import torch

from runtime.llm.sampling.columns import Columns
from runtime.llm.sampling.draw import uniforms
from runtime.llm.sampling.rows import SampledRow
from runtime.submission import SamplingParams


def row(seed: int = 0, mu: float | None = None, **params: Any) -> SampledRow:
    return SampledRow(SamplingParams(**params), seed, 7, None, mirostat_mu=mu)


def columns(*rows: SampledRow, vocab_size: int = 100) -> Columns:
    return Columns(torch.zeros(len(rows), vocab_size), rows)


def test_each_column_has_a_number_for_each_row() -> None:
    found = columns(
        row(3, temperature=0.5, top_k=9, top_p=0.25, min_p=0.125, typical_p=0.5), row(2**64 - 1, temperature=2.0)
    )
    assert found.uniform.tolist() == uniforms([3, 2**64 - 1], [7, 7]).tolist()
    assert found.exponents.shape == (2, 1)
    assert found.exponents.flatten().tolist() == pytest.approx([2 * math.log2(math.e), 0.5 * math.log2(math.e)])
    assert found.top_k.tolist() == [9, 0]
    assert found.top_p.tolist() == [0.25, 2.0]
    assert found.min_p.tolist() == [[0.125], [0.0]]
    assert found.typical_p.tolist() == [0.5, 1.0]
    assert found.limits.tolist() == [[9.0, 0.25, 0.125], [0.0, 2.0, 0.0]]
    assert found.limits.is_contiguous()
    assert found.limits.dtype is torch.float32
    assert (found.truncated, found.typical, found.steered, found.has_min_p) == ([0], [0], [], True)


def test_a_top_k_of_the_whole_vocabulary_is_none() -> None:
    assert columns(row(top_k=99), row(top_k=100), row(top_k=5000)).top_k.tolist() == [99, 0, 0]


def test_mirostat_takes_the_place_of_the_other_rules() -> None:
    found = columns(
        row(mirostat_target=3.0, top_k=4, top_p=0.5, min_p=0.1, typical_p=0.2), row(), row(mu=2.5, mirostat_target=1.0)
    )
    assert (found.steered, found.truncated, found.typical, found.has_min_p) == ([0, 2], [], [], False)
    assert found.mu.tolist() == [[6.0], [0.0], [2.5]]
    assert found.limits.tolist() == [[0.0, 2.0, 0.0]] * 3


def test_a_temperature_of_next_to_nothing_stays_finite() -> None:
    assert columns(row(temperature=1e-300)).exponents.isfinite().all()
