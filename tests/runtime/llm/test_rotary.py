"""Frequencies that depend on a length: chosen by what the replica serves, never by who shares a batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from runtime.llm.attention_gather import Span
from runtime.llm.rotary import choose_frequencies, keep_frequencies
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel
from tests.fakes.tiny_llm import Architecture, build_tiny_model

ORIGINAL = 24
SHORT, LONG = [1 + i / 8 for i in range(8)], [4 - i / 4 for i in range(8)]
PROMPT = list(range(5, 18))
LONGROPE: dict[str, Any] = {
    "rope_scaling": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG},
    "original_max_position_embeddings": ORIGINAL,
    "sliding_window": None,
}


def blocks(start: int, num_tokens: int) -> list[int]:
    return list(range(start, start + -(-num_tokens // BLOCK_SIZE)))


@pytest.mark.parametrize(
    ("max_context_length", "factors"),
    [(ORIGINAL, SHORT), (ORIGINAL + 1, LONG), (None, LONG)],
    ids=["short", "long", "all"],
)
def test_longrope_has_the_factors_of_the_replicas_context(
    max_context_length: int | None, factors: list[float], tmp_path: Path
) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path / "ours", "phi3", **LONGROPE), max_context_length=max_context_length)
    scaling = {**LONGROPE["rope_scaling"], "short_factor": factors, "long_factor": factors}
    reference = build_tiny_model(tmp_path / "reference", "phi3", **{**LONGROPE, "rope_scaling": scaling})
    model = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    for num_tokens in (3, ORIGINAL, ORIGINAL + 20):
        prompt = [(7 * i) % 300 + 3 for i in range(num_tokens)]
        logits = tiny.logits(prompt, [Span(0, num_tokens, 0, blocks(1, num_tokens))])
        assert (logits - model(torch.tensor([prompt])).logits[0]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("phi3", LONGROPE),
        ("llama", {"max_position_embeddings": ORIGINAL, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}),
        ("gemma3", {"max_position_embeddings": ORIGINAL, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}),
    ],
)
@pytest.mark.parametrize("max_context_length", [ORIGINAL, None])
def test_a_long_request_changes_nothing_for_others(
    architecture: Architecture, settings: dict[str, Any], max_context_length: int | None, tmp_path: Path
) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, architecture, **settings), max_context_length=max_context_length)
    num_tokens = len(PROMPT)
    alone = tiny.logits(PROMPT, [Span(0, num_tokens, 0, blocks(1, num_tokens))])
    longer = [(5 * i) % 300 + 3 for i in range(3 * ORIGINAL)]
    spans = [Span(0, num_tokens, 0, blocks(1, num_tokens)), Span(num_tokens, len(longer), 0, blocks(10, len(longer)))]
    together = tiny.logits(PROMPT + longer, spans)
    assert (together[:num_tokens] - alone).abs().max() < 1e-4
    again = tiny.logits(PROMPT, [Span(0, num_tokens, 0, blocks(1, num_tokens))])
    assert torch.equal(again, alone)


def test_other_kinds_stay_what_they_are() -> None:
    class Config:
        rope_parameters = {"rope_type": "yarn", "factor": 2.0}  # as in a config

    class Rotary(torch.nn.Module):
        rope_type = "yarn"

    choose_frequencies(Config, 100)
    assert Config.rope_parameters == {"rope_type": "yarn", "factor": 2.0}
    rotary = Rotary()
    keep_frequencies(torch.nn.Sequential(rotary))
    assert rotary.rope_type == "yarn"
