"""What tokens and logits come out is in `test_golden.py`; here is what it takes."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from runtime.llm.attention_gather import Span
from runtime.llm.kernel_choice import Kernels
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.patches.mla import LatentAttention, can_absorb
from runtime.llm.patches.norm import FusedNorm
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import build_tiny_model

TOKEN_IDS = list(range(3, 23))
SPANS = [Span(0, len(TOKEN_IDS), 0, [1, 2, 3])]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("deepseek"), "deepseek_v2")


def test_every_layer_is_swapped_and_its_cache_is_smaller(directory: Path) -> None:
    expanded, compressed = TinyModel(directory), TinyModel(directory, keeps_latents=True)
    kinds = [type(module).__name__ for module in compressed.model.modules()]
    assert (kinds.count("LatentAttention"), kinds.count("DeepseekV2Attention")) == (3, 0)
    num_heads, (head_size, value_size), latent = 4, expanded.info.attention.part_sizes, 24 + 8
    sizes = [tiny.attention().size_bytes for tiny in (expanded, compressed)]
    assert sizes[0] * latent == sizes[1] * num_heads * (head_size + value_size)


def test_biases_are_kept(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "deepseek_v2", attention_bias=True, q_lora_rank=20)
    expanded, compressed = TinyModel(directory), TinyModel(directory, keeps_latents=True)
    logits = [one.logits(TOKEN_IDS, SPANS) for one in (expanded, compressed)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)


def test_a_file_of_another_source_is_not_known() -> None:
    def apply_rotary_emb() -> None:
        """Of a later version."""

    assert not can_absorb({"DeepseekV2Attention": LatentAttention, "apply_rotary_emb": apply_rotary_emb})


def test_what_expands_latents_is_not_copied(directory: Path) -> None:
    tiny = TinyModel(directory, keeps_latents=True)
    attention = tiny.model.model.layers[0].self_attn
    assert isinstance(attention, LatentAttention)
    keys, values = attention._to_keys, attention._to_values
    assert keys.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()


def test_norms_inside_are_exchanged_as_ever(directory: Path) -> None:
    tiny = TinyModel(directory, keeps_latents=True, kernels=Kernels(LayerOperations(*PLAIN)))
    plain = TinyModel(directory)
    assert isinstance(tiny.model.model.layers[0].self_attn.kv_a_layernorm, FusedNorm)
    logits = [one.logits(TOKEN_IDS, SPANS) for one in (plain, tiny)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)


def test_latents_in_8_bit_floats_point_the_same_way(directory: Path) -> None:
    exact, rounded = (TinyModel(directory, keeps_latents=True, is_kv_fp8=is_fp8) for is_fp8 in (False, True))
    expected, found = (one.logits(TOKEN_IDS, SPANS) for one in (exact, rounded))
    assert not torch.equal(expected, found)
    assert cosine_similarity(expected, found, dim=-1).mean() > 0.98
