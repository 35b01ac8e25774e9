from pathlib import Path

import pytest
import torch
from torch import nn

from runtime.llm.patches.norm import FusedNorm, Unadded, scale_of
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import Architecture, build_tiny_model


@pytest.mark.parametrize("architecture", ["llama", "gemma"])
def test_a_norm_is_that_of_transformers_to_the_bit(architecture: Architecture, tmp_path: Path) -> None:
    norm = TinyModel(build_tiny_model(tmp_path, architecture), enable_patches=False).model.model.norm
    for dtype in (torch.float32, torch.bfloat16):
        inputs = torch.randn(1, 9, norm.weight.shape[0], dtype=dtype)
        scale = scale_of(norm.to(dtype))
        assert scale is not None
        assert torch.equal(FusedNorm(scale)(inputs), norm(inputs))
        assert torch.equal(FusedNorm(scale)(Unadded(inputs, inputs.clone())), norm(inputs + inputs))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_norm_is_that_of_torch_to_the_bit(dtype: torch.dtype, has_bias: bool) -> None:
    norm = nn.LayerNorm(24, bias=has_bias, dtype=dtype)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    scale = scale_of(norm)
    assert scale is not None
    inputs = torch.randn(1, 9, 24, dtype=dtype)
    assert torch.equal(FusedNorm(scale)(inputs), norm(inputs))
    assert torch.equal(FusedNorm(scale)(Unadded(inputs, inputs.clone())), norm(inputs + inputs))


def test_other_norms_have_no_scale_of_this_kind() -> None:
    assert scale_of(nn.LayerNorm(8, elementwise_affine=False)) is None
    assert scale_of(nn.LayerNorm((2, 8))) is None
    assert scale_of(nn.RMSNorm(8)) is None
