"""What decoder layers compute between their matrix products, and mixtures of experts, in plain torch.

This is the reference of `kernels/`, which has each operation by Triton for CUDA, and what runs everywhere else.

Knows tensors, neither modules nor devices. An operation may overwrite what its text says, and nothing else.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch.nn.functional import gelu, layer_norm, silu

from runtime.llm.patches.expert_weights import ExpertWeights

Activation = Literal["silu", "gelu", "gelu_tanh"]
Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, [tokens, 1, head size] each; the sine of the first half of a head is negative."""


class Scale(NamedTuple):
    """The learnt part of an RMS norm or, if centred, of a layer norm."""

    weight: torch.Tensor
    epsilon: float
    is_shifted: bool = False
    """Gemma: 1 + weight is what counts, and the rounding comes after the product."""
    is_centred: bool = False
    """The mean is taken off first, and the rounding comes at the end."""
    bias: torch.Tensor | None = None
    """Of a layer norm that has one."""


class HeadNorms(NamedTuple):
    """Norms of single heads ahead of their rotation."""

    query: Scale
    key: Scale


class ExpertChoice(NamedTuple):
    """Of a mixture's router, [tokens, experts that each token has]."""

    indices: torch.Tensor
    """One that is no expert's adds nothing."""
    shares: torch.Tensor


AddNorm = Callable[[torch.Tensor, torch.Tensor | None, Scale], tuple[torch.Tensor, torch.Tensor]]
"""(hidden states, what is still to be added, scale) → the normed sum, and the sum. Overwrites the addend."""
Gate = Callable[[torch.Tensor, Activation], torch.Tensor]
"""(gate and up side by side, activation) → activation(gate) × up."""
Rotate = Callable[[torch.Tensor, Rotation, int, HeadNorms | None], torch.Tensor]
"""([tokens, heads, size], rotation, how many heads are queries, norms) → the turned heads. Overwrites its input."""
MixExperts = Callable[[torch.Tensor, ExpertChoice, ExpertWeights, Activation], torch.Tensor]
"""([tokens, hidden size], choice, experts, activation) → the sum of what each token's experts put out, by shares."""


def add_norm(
    hidden_states: torch.Tensor, addend: torch.Tensor | None, scale: Scale
) -> tuple[torch.Tensor, torch.Tensor]:
    total = hidden_states if addend is None else addend.add_(hidden_states)
    if scale.is_centred:
        return layer_norm(total, scale.weight.shape, scale.weight, scale.bias, scale.epsilon), total
    wide = total.float()
    mean_square: torch.Tensor = torch.linalg.vecdot(wide, wide).div_(wide.shape[-1])
    normed = wide * mean_square.add_(scale.epsilon).rsqrt_().unsqueeze(-1)
    if scale.is_shifted:
        return normed.mul_(1.0 + scale.weight.float()).to(total.dtype), total
    return normed.to(total.dtype).mul_(scale.weight), total


def gate(gate_up: torch.Tensor, activation: Activation) -> torch.Tensor:
    gated, up = gate_up.chunk(2, dim=-1)
    if activation == "silu":
        return silu(gated).mul_(up)
    return gelu(gated, approximate="tanh" if activation == "gelu_tanh" else "none").mul_(up)


def rotate(
    heads: torch.Tensor, rotation: Rotation, num_query_heads: int, norms: HeadNorms | None = None
) -> torch.Tensor:
    """Element j and its partner half a head away turn together."""
    if norms is not None:
        for some, scale in ((heads[:, :num_query_heads], norms.query), (heads[:, num_query_heads:], norms.key)):
            some.copy_(add_norm(some, None, scale)[0])
    cosine, signed_sine = rotation
    partners = torch.roll(heads, heads.shape[-1] // 2, dims=-1)
    return (heads * cosine).add_(partners.mul_(signed_sine))


def mix_experts(
    hidden_states: torch.Tensor, choice: ExpertChoice, experts: ExpertWeights, activation: Activation
) -> torch.Tensor:
    """Expert by expert, in their order: the sums and roundings of transformers' own loop."""
    chosen = choice.indices.flatten()
    order = chosen.argsort(stable=True)
    tokens, shares = order // choice.indices.shape[1], choice.shares.flatten()[order].unsqueeze(-1)
    mixed = torch.zeros_like(hidden_states)
    first = 0
    for expert, count in enumerate(torch.bincount(chosen, minlength=experts.num_experts).tolist()):
        if count and expert < experts.num_experts:
            own = slice(first, first + count)
            inputs = hidden_states.index_select(0, tokens[own])
            gated = gate(experts.multiply_gate_up(expert, inputs), activation)
            mixed.index_add_(0, tokens[own], (experts.multiply_down(expert, gated) * shares[own]).to(mixed.dtype))
        first += count
    return mixed
