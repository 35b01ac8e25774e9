"""Logits by parts are those of the whole model, for heads that do more than multiply as well."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from runtime.llm.language_head import LanguageHead

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


@pytest.mark.parametrize(
    "model",
    [
        LlamaForCausalLM(LlamaConfig(**SIZES)),
        Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=0.01)),
    ],
    ids=["llama", "a capped head"],
)
def test_parts_are_those_of_the_whole(model: Any) -> None:
    token_ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        expected = model(token_ids).logits[0]
        decoder = model.model
        decoded = decoder(token_ids)
        head = LanguageHead(model)
        for rows in ([3], [0, 2], [1, 1, 0, 3]):
            assert torch.allclose(head.logits(decoded, torch.tensor(rows)), expected[rows], atol=1e-6)
    assert model.model is decoder


def test_the_decoder_is_back_after_an_error() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    decoder = model.model
    with pytest.raises(AttributeError):
        LanguageHead(model).logits(Path(), torch.tensor([0]))
    assert model.model is decoder
