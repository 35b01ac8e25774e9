import math

import pytest
import torch

from runtime.embedding.layout import Layout
from runtime.embedding.pooling import pool

CPU = torch.device("cpu")
HIDDEN = torch.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize("lengths", [[3, 2, 1], [6]])
def test_each_mode_equals_its_definition_text_by_text(lengths: list[int]) -> None:
    layout, start = Layout(lengths, CPU), 0
    for index, length in enumerate(lengths):
        own = HIDDEN[start : start + length]
        start += length
        weights = torch.arange(1.0, length + 1)[:, None]
        expected = {
            "cls": own[0],
            "lasttoken": own[-1],
            "max": own.amax(0),
            "mean": own.mean(0),
            "mean_sqrt_len_tokens": own.sum(0) / math.sqrt(length),
            "weightedmean": (own * weights).sum(0) / weights.sum(),
        }
        for mode, vector in expected.items():
            torch.testing.assert_close(pool(HIDDEN, layout, mode)[index], vector)


def test_sums_are_taken_in_float32_whatever_the_model_computes_in() -> None:
    hidden = torch.full((3000, 1), 1.0, dtype=torch.bfloat16)
    pooled = pool(hidden, Layout([3000], CPU), "mean_sqrt_len_tokens")
    assert pooled.dtype is torch.float32
    assert pooled.item() == pytest.approx(math.sqrt(3000))
