from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch.nn.functional import cosine_similarity

from models.info import Fp8Layout
from runtime.llm.parallel.leader import Ranks
from tests.fakes.tiny_fp8 import quantise_folder
from tests.fakes.tiny_llm import ARCHITECTURES, Architecture, build_tiny_model
from tests.fakes.tiny_parts import load_tiny


class Case(NamedTuple):
    architecture: Architecture
    settings: dict[str, Any]


CASES = {name: Case(name, {}) for name in ARCHITECTURES} | {
    "one KV head": Case("llama", {"num_key_value_heads": 1}),
    "a KV head for each query head": Case("phi3", {"num_key_value_heads": 4}),
    "all heads' keys by head": Case("gpt_bigcode", {"multi_query": False}),
    "sizes that are not divisible": Case("llama", {"vocab_size": 321, "intermediate_size": 131}),
    "a tied head": Case("llama", {"tie_word_embeddings": True}),
    "biases everywhere": Case("llama", {"attention_bias": True, "mlp_bias": True}),
    "no compressed queries": Case("deepseek_v2", {"q_lora_rank": None}),
}


@pytest.mark.parametrize("name", CASES)
def test_two_parts_compute_what_the_whole_does(name: str, ranks: Ranks, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, CASES[name].architecture, **CASES[name].settings)
    expected = load_tiny(directory).logits()
    found = load_tiny(directory, ranks).logits()
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("layout", ["row", "block"])
@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_parts_of_a_quantised_model_are_of_its_numbers(
    architecture: Architecture, layout: Fp8Layout, ranks: Ranks, tmp_path: Path
) -> None:
    plain = build_tiny_model(tmp_path / "plain", architecture, hidden_size=160, head_dim=32)
    quantised = quantise_folder(plain, tmp_path / "quantised", layout)
    assert (load_tiny(quantised, ranks).logits() - load_tiny(quantised).logits()).abs().max() < 1e-4


def test_parts_that_stay_in_8_bits_round_their_own_inputs(ranks: Ranks, tmp_path: Path) -> None:
    quantised = quantise_folder(build_tiny_model(tmp_path / "plain", "qwen3"), tmp_path / "quantised", "row")
    expected = load_tiny(quantised, dtype="bfloat16", keeps_fp8=True).logits()
    found = load_tiny(quantised, ranks, dtype="bfloat16", keeps_fp8=True).logits()
    assert cosine_similarity(found.float(), expected.float()).min() > 0.98


def test_each_part_has_its_share_of_weights_and_keys(ranks: Ranks, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    whole, part = load_tiny(directory), load_tiny(directory, ranks)
    assert part.attention.size_bytes * 2 == whole.attention.size_bytes
    widths = [tiny.part.model.model.layers[0].mlp.gate_up.output_sizes for tiny in (whole, part)]
    assert widths == [[128, 128], [64, 64]]
