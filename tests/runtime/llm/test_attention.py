from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, GptOssConfig, GptOssForCausalLM

from models.info import AttentionInfo
from runtime.llm.attention import NAME, attend
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.forward_context import Scoring, use_attention

NUM_TOKENS, NUM_HEADS, NUM_KV_HEADS, HEAD_SIZE = 5, 4, 2, 8


class Recorder:
    """Answers with the queries, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scoring: Scoring
    ) -> torch.Tensor:
        self.asked = {"layer": layer, "query": query, "key": key, "value": value, "scoring": scoring}
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
    assert (recorder.asked["layer"], recorder.asked["scoring"]) == (3, Scoring(0.5, 7))
    assert torch.equal(recorder.asked["query"], query[0].transpose(0, 1))
    assert torch.equal(recorder.asked["key"], key[0].transpose(0, 1))
    assert torch.equal(recorder.asked["value"], value[0].transpose(0, 1))
    assert output.shape == (1, NUM_TOKENS, NUM_HEADS, HEAD_SIZE)
    assert weights is None


def test_a_cap_on_scores_is_passed_on() -> None:
    query, key, recorder = _heads(NUM_HEADS), _heads(NUM_KV_HEADS), Recorder()
    with use_attention(recorder):
        attend(_module(layer_idx=0), query, key, key, None, scaling=1.0)
        assert recorder.asked["scoring"].softcap is None
        attend(_module(layer_idx=0), query, key, key, None, scaling=1.0, softcap=50.0)
        assert recorder.asked["scoring"].softcap == 50.0


def test_sinks_are_passed_on() -> None:
    query, key, recorder, sinks = _heads(NUM_HEADS), _heads(NUM_KV_HEADS), Recorder(), torch.randn(NUM_HEADS)
    with use_attention(recorder):
        attend(_module(layer_idx=0), query, key, key, None, scaling=1.0)
        assert recorder.asked["scoring"].sinks is None
        attend(_module(layer_idx=0), query, key, key, None, scaling=1.0, s_aux=sinks)
        assert recorder.asked["scoring"].sinks is sinks


def test_sinks_give_the_logits_that_transformers_gives() -> None:
    """Of a whole prompt, a token after it and a chunk after that, in layers with a window and without."""
    model = _model_with_sinks()
    token_ids = torch.randint(0, model.config.vocab_size, (1, 20))
    with torch.inference_mode():
        expected = model(input_ids=token_ids, use_cache=False).logits
        AttentionInterface.register(NAME, attend)
        model.set_attn_implementation(NAME)
        for layer in model.model.layers:
            assert layer.self_attn.sinks.std() > 1, "they count"
        backend = GatherAttention(
            _shape_of(model.config), num_blocks=9, block_size=4, dtype=torch.float32, device=torch.device("cpu")
        )
        for start, stop in ((0, 12), (12, 13), (13, 20)):
            with use_attention(backend.prepare([Span(0, stop - start, start, [3, 8, 1, 5, 2])])):
                positions = torch.arange(start, stop).unsqueeze(0)
                logits = model(input_ids=token_ids[:, start:stop], position_ids=positions, use_cache=False).logits
            torch.testing.assert_close(logits, expected[:, start:stop], rtol=1e-4, atol=1e-4)


def test_a_mask_or_a_dropout_would_be_silently_lost_and_is_refused() -> None:
    query, key = _heads(NUM_HEADS), _heads(NUM_KV_HEADS)
    with use_attention(Recorder()):
        with pytest.raises(AssertionError, match="mask"):
            attend(_module(layer_idx=0), query, key, key, torch.zeros(1), scaling=1.0)
        with pytest.raises(AssertionError, match="train"):
            attend(_module(layer_idx=0), query, key, key, None, scaling=1.0, dropout=0.1)


def _model_with_sinks() -> Any:
    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=NUM_HEADS,
        num_key_value_heads=NUM_KV_HEADS,
        head_dim=HEAD_SIZE,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention"],
        attn_implementation="eager",
    )
    model = GptOssForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.sinks, std=3.0)
    return model


def _shape_of(config: GptOssConfig) -> AttentionInfo:
    return AttentionInfo(
        num_layers=config.num_hidden_layers,
        num_heads=NUM_HEADS,
        num_kv_heads=NUM_KV_HEADS,
        head_size=HEAD_SIZE,
        value_head_size=HEAD_SIZE,
        sliding_window=config.sliding_window,
        full_attention_layers=[1],
    )


def _module(layer_idx: int) -> Any:
    return SimpleNamespace(layer_idx=layer_idx)
