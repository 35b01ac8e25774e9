from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.info import Fp8Layout
from models.llm_folder import inspect_llm
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.file_embedding import FileEmbedding
from runtime.llm.linear import Linear
from runtime.llm.loader import build_skeleton, fill_skeleton, load_weights
from runtime.llm.patches.fused_layer import FusedLayer, fuse
from tests.fakes.tiny_fp8 import quantise_folder
from tests.fakes.tiny_llm import ARCHITECTURES, Architecture, build_tiny_model

CPU = torch.device("cpu")


def _load(directory: Path, dtype: torch.dtype, *, enable_patches: bool = False) -> Any:
    info = inspect_llm(directory)
    return load_weights(
        build_skeleton(directory, info), directory, info, dtype=dtype, device=CPU, enable_patches=enable_patches
    )


def test_a_skeleton_has_real_buffers_and_takes_no_memory_for_parameters(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    skeleton = build_skeleton(directory, inspect_llm(directory))
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert not any(buffer.is_meta for buffer in skeleton.buffers())
    assert torch.nn.Linear(2, 2).weight.device == CPU, "what building it took over is given back"


@pytest.mark.parametrize(("max_shard_size", "has_arena"), [("1GB", False), ("100KB", False), ("100KB", True)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_and_buffer_is_that_of_from_pretrained(
    architecture: Architecture, max_shard_size: str, has_arena: bool, tmp_path: Path
) -> None:
    directory = build_tiny_model(tmp_path, architecture, max_shard_size=max_shard_size)
    info = inspect_llm(directory)
    ours = build_skeleton(directory, info)
    checkpoint = Checkpoint(directory, [name for name in info.file_sha256 if name.endswith(".safetensors")])
    fill_skeleton(ours, checkpoint, info, dtype=torch.float32, device=CPU, has_arena=has_arena)
    assert not has_arena or len({tensor.untyped_storage().data_ptr() for tensor in ours.parameters()}) == 1
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    expected = dict(reference.state_dict()) | dict(reference.named_buffers())
    expected.pop("transformer.bias", None)  # a mask that only an attention reads which is not in use
    found = dict(ours.state_dict()) | dict(ours.named_buffers())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_are_converted_to_the_served_dtype(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "qwen2", dtype="float32")
    model = _load(directory, torch.bfloat16).model
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    assert torch.equal(model.model.embed_tokens.weight, reference.model.embed_tokens.weight)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in model.buffers()} == {buffer.dtype for buffer in reference.buffers()}


@pytest.mark.parametrize(
    ("architecture", "layout", "keeps_fp8"),
    [("llama", None, False), ("llama", "row", True), ("llama", "block", True), ("mixtral", "row", True)],
)
def test_an_arena_holds_what_a_load_tensor_by_tensor_does(
    architecture: Architecture, layout: Fp8Layout | None, keeps_fp8: bool, tmp_path: Path
) -> None:
    directory = build_tiny_model(tmp_path / "plain", architecture, hidden_size=160, head_dim=32)
    if layout is not None:
        directory = quantise_folder(directory, tmp_path / "quantised", layout)
    info = inspect_llm(directory)
    states = []
    for has_arena in (False, True):
        model, checkpoint = build_skeleton(directory, info), Checkpoint.of_model(directory, info)
        how: Any = {"dtype": torch.bfloat16, "device": CPU, "keeps_fp8": keeps_fp8}
        durations = fill_skeleton(model, checkpoint, info, **how, has_arena=has_arena)
        assert (durations is not None) == has_arena
        states.append(model.state_dict())
    one_by_one, in_arena = states
    assert in_arena.keys() == one_by_one.keys()
    assert {name: tensor.dtype for name, tensor in in_arena.items()} == {
        name: tensor.dtype for name, tensor in one_by_one.items()
    }
    assert all(torch.equal(in_arena[name].float(), one_by_one[name].float()) for name in one_by_one)


@pytest.mark.parametrize("keeps_fp8", [False, True])
def test_products_of_an_arena_are_views_of_it(keeps_fp8: bool, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path / "plain", "qwen2", hidden_size=160, head_dim=32)
    if keeps_fp8:
        directory = quantise_folder(directory, tmp_path / "quantised", "row")
    info = inspect_llm(directory)
    model = build_skeleton(directory, info)
    fill_skeleton(
        model,
        Checkpoint.of_model(directory, info),
        info,
        dtype=torch.bfloat16,
        device=CPU,
        keeps_fp8=keeps_fp8,
        has_arena=True,
    )
    attention = model.model.layers[1].self_attn
    storage = attention.q_proj.weight.untyped_storage().data_ptr()
    assert fuse(model, info.attention, lambda weight: None)
    for product in (model.model.layers[1].query_key_value, model.model.layers[1].mlp.gate_up):
        weight = product._weight if keeps_fp8 else product._weights[0]
        assert weight.untyped_storage().data_ptr() == storage
        assert len(weight) == sum(product.output_sizes)
        assert product._bias is None or product._bias.untyped_storage().data_ptr() == storage
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr(), "tied is there once"


def test_embeddings_stay_in_the_file_unless_they_are_converted(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "qwen2", dtype="float32")
    assert isinstance(_load(directory, torch.float32).model.model.embed_tokens, FileEmbedding)
    assert isinstance(_load(directory, torch.bfloat16).model.model.embed_tokens, torch.nn.Embedding)
    scaled = build_tiny_model(tmp_path / "scaled", "gemma", dtype="bfloat16")
    assert isinstance(_load(scaled, torch.bfloat16).model.model.embed_tokens, FileEmbedding)


def test_a_config_cannot_ask_for_more_than_logits(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "mixtral", output_router_logits=True, output_hidden_states=True)
    config = build_skeleton(directory, inspect_llm(directory)).config
    assert not any((config.output_router_logits, config.output_hidden_states, config.output_attentions))
    assert config._experts_implementation == "eager"


def test_a_padding_token_outside_the_vocabulary_is_no_obstacle(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "phi3")
    config_file = directory / "config.json"
    config_file.write_text(config_file.read_text().replace('"pad_token_id": null', '"pad_token_id": 32000'))
    assert build_skeleton(directory, inspect_llm(directory)).config.pad_token_id is None


@pytest.mark.parametrize("enable_patches", [True, False])
def test_no_linear_of_torch_is_left_and_the_head_is_packed_first(tmp_path: Path, enable_patches: bool) -> None:
    directory = build_tiny_model(tmp_path, "mistral")
    model, packing, _ = _load(directory, torch.float32, enable_patches=enable_patches)
    assert not any(type(module) is torch.nn.Linear for module in model.modules())
    assert any(isinstance(module, FusedLayer) for module in model.modules()) == enable_patches
    linears = [module for module in model.modules() if isinstance(module, Linear)]
    packed = [module for module in linears if module._packed is not None]
    assert packed == ([model.lm_head] if model.lm_head.is_packable else [])
    packing.advance(60.0)
    assert not packing
