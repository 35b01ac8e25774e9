from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runtime.llm.attention import attend
from runtime.llm.forward_context import use_attention

NUM_TOKENS, NUM_HEADS, NUM_KV_HEADS, HEAD_SIZE = 5, 4, 2, 8


class Recorder:
    """Answers with the queries, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        self.asked = {"layer": layer, "query": query, "key": key, "value": value, **options}
        return query


def _heads(num_heads: int) -> torch.Tensor:
    return torch.randn(1, num_heads, NUM_TOKENS, HEAD_SIZE)


def test_tensors_change_from_the_layout_of_transformers_to_ours_and_back() -> None:
    query, key, value = _heads(NUM_HEADS), _heads(NUM_KV_HEADS), _heads(NUM_KV_HEADS)
    recorder = Recorder()
    with use_attention(recorder):
        output, weights = attend(
            _module(layer_idx=3), query, key, value, None, scaling=0.5, sliding_window=7, position_ids=None
        )
    assert (recorder.asked["layer"], recorder.asked["scaling"], recorder.asked["sliding_window"]) == (3, 0.5, 7)
    assert torch.equal(recorder.asked["query"], query[0].transpose(0, 1))
    assert torch.equal(recorder.asked["key"], key[0].transpose(0, 1))
    assert torch.equal(recorder.asked["value"], value[0].transpose(0, 1))
    assert output.shape == (1, NUM_TOKENS, NUM_HEADS, HEAD_SIZE)
    assert weights is None


def test_a_cap_on_scores_is_passed_on() -> None:
    query, key, recorder = _heads(NUM_HEADS), _heads(NUM_KV_HEADS), Recorder()
    with use_attention(recorder):
        attend(_module(layer_idx=0), query, key, key, None, scaling=1.0)
        assert recorder.asked["softcap"] is None
        attend(_module(layer_idx=0), query, key, key, None, scaling=1.0, softcap=50.0)
        assert recorder.asked["softcap"] == 50.0


def test_a_mask_or_a_dropout_would_be_silently_lost_and_is_refused() -> None:
    query, key = _heads(NUM_HEADS), _heads(NUM_KV_HEADS)
    with use_attention(Recorder()):
        with pytest.raises(AssertionError, match="mask"):
            attend(_module(layer_idx=0), query, key, key, torch.zeros(1), scaling=1.0)
        with pytest.raises(AssertionError, match="train"):
            attend(_module(layer_idx=0), query, key, key, None, scaling=1.0, dropout=0.1)


def _module(layer_idx: int) -> Any:
    return SimpleNamespace(layer_idx=layer_idx)
