"""The plain operations against transformers' own ways of writing them."""

import pytest
import torch
from torch.nn.functional import gelu, silu
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from runtime.llm.patches.operations import Activation, HeadNorms, Scale, add_norm, gate, rotate


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_adds_first_and_is_that_of_transformers_to_the_bit(dtype: torch.dtype) -> None:
    hidden, addend = torch.randn(2, 1, 5, 64).to(dtype)
    norm = LlamaRMSNorm(64).to(dtype)
    torch.nn.init.normal_(norm.weight)
    total = hidden + addend
    found, found_total = add_norm(hidden, addend, Scale(norm.weight.detach(), norm.variance_epsilon))
    assert torch.equal(found_total, total)
    assert found_total is addend
    assert torch.equal(found, norm(total))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_shifted_norm_is_that_of_gemma(dtype: torch.dtype) -> None:
    hidden = torch.randn(1, 5, 64).to(dtype)
    norm = GemmaRMSNorm(64).to(dtype)
    torch.nn.init.normal_(norm.weight)
    found, total = add_norm(hidden, None, Scale(norm.weight.detach(), norm.eps, is_shifted=True))
    assert total is hidden
    torch.testing.assert_close(found, norm(hidden))


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_the_first_half_gates_the_second(activation: Activation) -> None:
    gated, up = torch.randn(2, 1, 5, 12)
    by_name = {"silu": silu(gated), "gelu": gelu(gated), "gelu_tanh": gelu(gated, approximate="tanh")}
    torch.testing.assert_close(gate(torch.cat([gated, up], dim=-1), activation), by_name[activation] * up)


def test_heads_are_normed_and_turned_as_transformers_does() -> None:
    heads, angles = torch.randn(5, 7, 16), torch.rand(1, 5, 8) * 6
    weights = torch.randn(2, 16)
    cosine, sine = torch.cat([angles.cos()] * 2, dim=-1), torch.cat([angles.sin()] * 2, dim=-1)
    norms = HeadNorms(Scale(weights[0], 1e-6), Scale(weights[1], 1e-3))
    query, key = add_norm(heads[:, :4], None, norms.query)[0], add_norm(heads[:, 4:], None, norms.key)[0]
    expected = apply_rotary_pos_emb(query.transpose(0, 1)[None], key.transpose(0, 1)[None], cosine, sine)
    signed = sine * torch.tensor([-1.0] * 8 + [1.0] * 8)
    found = rotate(heads, (cosine[0].unsqueeze(1), signed[0].unsqueeze(1)), 4, norms)
    torch.testing.assert_close(found, torch.cat([part[0].transpose(0, 1) for part in expected], dim=1))
