from pathlib import Path
from typing import Any

import pytest

from models.llm_folder import inspect_llm
from runtime.llm.loader import build_skeleton
from runtime.llm.parallel.cut import Cut, Share
from runtime.llm.parallel.division import Division, divide, divided
from tests.fakes.tiny_llm import ARCHITECTURES, Architecture, build_tiny_model


def division_of(directory: Path, share: Share) -> tuple[Any, Division]:
    info = inspect_llm(directory)
    skeleton = build_skeleton(directory, info)
    return skeleton, divide(skeleton, info.attention, share)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parts_of_four_processes_cover_every_divided_weight(architecture: Architecture, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, architecture)
    whole, _ = division_of(directory, Share())
    shapes = {name: parameter.shape for name, parameter in whole.named_parameters()}
    divisions = [division_of(directory, Share(rank, 4))[1] for rank in range(4)]
    for name in divisions[0].cuts:
        cuts = [division.cuts[name] for division in divisions if name in division.cuts]
        seen = {index for cut in cuts for part in cut.ranges for index in part}
        dimension = cuts[0].dimension
        num_elements = shapes[name][dimension]
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):  # each expert's own matrices are cut
            num_elements = shapes[name.replace("gate_up_proj", "down_proj")][-1]
        assert seen == set(range(num_elements)), name
    assert divisions[0].summed_linears


def test_a_part_has_small_layers_and_one_of_the_biases_that_are_summed(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "starcoder2")
    (first, _), (second, _) = (division_of(directory, Share(rank, 2)) for rank in range(2))
    for skeleton in (first, second):
        layer = skeleton.model.layers[0]
        assert layer.self_attn.q_proj.weight.shape == (32, 64)
        assert layer.self_attn.k_proj.bias.shape == (16,)
        assert layer.mlp.c_proj.weight.shape == (64, 64)
        assert skeleton.lm_head.weight.shape == (160, 64)
        assert skeleton.model.embed_tokens.weight.shape == (320, 64), "looked up without a word to anybody"
    assert first.model.layers[0].mlp.c_proj.bias is not None
    assert second.model.layers[0].mlp.c_proj.bias is None


def test_with_fewer_kv_heads_than_processes_neighbours_have_the_same_one(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    name = "model.layers.0.self_attn.k_proj.weight"
    cuts = [division_of(directory, Share(rank, 4))[1].cuts[name] for rank in range(4)]
    assert cuts == [Cut(0, (range(16),))] * 2 + [Cut(0, (range(16, 32),))] * 2
    own = divided(inspect_llm(directory), Share(3, 4)).attention
    assert (own.num_heads, own.num_kv_heads) == (1, 1)


def test_norms_of_single_heads_keep_their_names(tmp_path: Path) -> None:
    skeleton, _ = division_of(build_tiny_model(tmp_path, "stablelm"), Share(1, 2))
    norms = skeleton.model.layers[0].self_attn.q_layernorm.norms
    assert [name for name, _ in norms.named_parameters()] == ["2.weight", "3.weight"]


def test_alone_nothing_is_divided(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    info = inspect_llm(directory)
    skeleton, division = division_of(directory, Share())
    assert not division.cuts
    assert divided(info, Share()) == info
    assert skeleton.model.layers[0].self_attn.q_proj.weight.shape == (64, 64)
