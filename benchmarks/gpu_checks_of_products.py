"""Checks of the kernels that multiply: adapters and mixtures of experts; rows of `gpu_checks.py`."""

import torch

from benchmarks.gpu_setting import Setting
from runtime.llm.patches import operations
from runtime.llm.patches.expert_weights import ExpertWeights
from runtime.llm.patches.operations import ExpertChoice


def check_lora(setting: Setting, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Adapters of several ranks, and rows without one, in one batch; what was found and what was expected."""
    from runtime.llm.kernels import lora
    from tests.fakes.lora_stacks import StackedLayer

    width, parts, num_tokens = (70, [130, 20, 9], 41) if setting.is_tiny else (4096, [4096, 1024, 1024], 131)
    layer = StackedLayer(width, parts, dtype=dtype, device=setting.device)
    adapters = [layer.adapter(16, [0, 1, 2]), layer.adapter(33, [0, 2]), layer.adapter(5, [1])]
    placed = [layer.stacks.place(adapter) for adapter in adapters]
    owners = [index % 4 - 1 for index in range(num_tokens)]
    inputs, before = layer.random(num_tokens, width), layer.random(num_tokens, sum(parts))
    expected, found = before.clone(), before.clone()
    for number, adapter in enumerate(adapters):
        rows = (torch.tensor(owners) == number).nonzero().flatten().to(setting.device)
        adapter.changes[layer.linear].add(inputs, expected, rows)
    slots = [-1 if owner < 0 else placed[owner].slot for owner in owners]
    lora.add(found, inputs, layer.stack, layer.groups(slots, lora, num_tokens))
    return found, expected


def check_experts(setting: Setting, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    from runtime.llm.kernels.experts import mix_experts

    num_tokens, num_experts, width, inner = (40, 5, 36, 33) if setting.is_tiny else (67, 64, 2048, 1024)
    gate_up = 0.1 * torch.randn(num_experts, 2 * inner, width, device=setting.device)
    down = 0.1 * torch.randn(num_experts, width, inner, device=setting.device)
    experts = ExpertWeights(gate_up.to(dtype), down.to(dtype))
    shares, indices = torch.rand(num_tokens, num_experts, device=setting.device).topk(4)
    inputs = torch.randn(num_tokens, width, device=setting.device).to(dtype)
    choice = ExpertChoice(indices, shares)
    return mix_experts(inputs, choice, experts, "silu"), operations.mix_experts(inputs, choice, experts, "silu")
