from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runtime.embedding.attention import attend, use_layout
from runtime.embedding.layout import Layout

LENGTHS = [9, 7, 7, 2, 1]


def _module(*, is_causal: bool) -> Any:
    return SimpleNamespace(is_causal=is_causal, config=SimpleNamespace())


def _alone(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """One text, by the definition: from and to [heads, tokens, head size]."""
    repeats = query.shape[0] // key.shape[0]
    weights = query @ key.repeat_interleave(repeats, 0).transpose(1, 2) * 0.3
    weights = weights.masked_fill(~seen, float("-inf")).softmax(-1)
    return weights @ value.repeat_interleave(repeats, 0)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("window", [None, 3, 100])
def test_every_text_sees_itself_and_nobody_else(is_causal: bool, window: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    num_tokens = sum(LENGTHS)
    query, key, value = (torch.randn(1, heads, num_tokens, 8, generator=generator) for heads in (4, 2, 2))
    with use_layout(Layout(LENGTHS, torch.device("cpu"))):
        output, _ = attend(_module(is_causal=is_causal), query, key, value, None, scaling=0.3, sliding_window=window)
    assert output.shape == (1, num_tokens, 4, 8)
    start = 0
    for length in LENGTHS:
        own = slice(start, start + length)
        start += length
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = distance.abs() < (window or 1000)
        seen &= (distance >= 0) | (not is_causal)
        expected = _alone(query[0, :, own], key[0, :, own], value[0, :, own], seen)
        torch.testing.assert_close(output[0, own].transpose(0, 1), expected, rtol=1e-5, atol=1e-6)


def test_a_config_may_open_a_decoder_to_later_tokens() -> None:
    module = _module(is_causal=True)
    module.config.is_causal = False
    query = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(1))
    with use_layout(Layout([4], torch.device("cpu"))):
        output, _ = attend(module, query, query, query, None, scaling=0.3)
    expected = _alone(query[0], query[0], query[0], torch.ones(4, 4, dtype=torch.bool))
    torch.testing.assert_close(output[0].transpose(0, 1), expected)


def test_outside_of_a_step_there_is_no_attention() -> None:
    tensor = torch.zeros(1, 1, 1, 8)
    with pytest.raises(AssertionError, match="outside of a step"):
        attend(_module(is_causal=False), tensor, tensor, tensor, None, scaling=1.0)
