"""Experts of mixtures: in place of transformers' loop, which asks the device for every expert's tokens, one operation.

Routers stay transformers', and so does what is beside the experts.
"""

import logging
from typing import Any

import torch
from torch import nn

from runtime.llm.patches.expert_weights import ExpertWeights, PackableExpert
from runtime.llm.patches.gated_mlp import ACTIVATIONS
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.patches.operations import Activation, ExpertChoice
from runtime.llm.patches.sources import source_key

logger = logging.getLogger(__name__)

_KEYS = {"176c1d9b2401897a", "7f50ffcd1434f14a"}
"""Of those of DeepSeek V2, Mixtral, Qwen 2 MoE and Qwen 3 MoE; the second as transformers 5.17 has it."""
_MANY_PER_EXPERT = 40
"""Choices of each: kernels have one way for few and another for many."""


class Experts(nn.Module):
    def __init__(self, source: Any, activation: Activation, operations: LayerOperations) -> None:
        super().__init__()
        # The model's parameters, as they were.
        self.gate_up_proj: nn.Parameter = source.gate_up_proj
        self.down_proj: nn.Parameter = source.down_proj
        self.weights = ExpertWeights(self.gate_up_proj.detach(), self.down_proj.detach())
        self._activation = activation
        self._mix = operations.mix_experts

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        return self._mix(hidden_states, ExpertChoice(top_k_index, top_k_weights), self.weights, self._activation)

    def to_pack(self) -> list[PackableExpert]:
        """None where kernels read the weights as they are stacked."""
        return self.weights.to_pack() if self._mix is PLAIN.mix_experts else []


def patch_experts(model: Any, operations: LayerOperations) -> None:
    """Exchange what can be exchanged; the log names what looks like it and has a source that is not known."""
    unknown: set[str] = set()
    kernels_of: dict[tuple[torch.Size, torch.Size], Experts] = {}
    for path, module in list(model.named_modules()):
        if source_key(type(module)) not in _KEYS:
            if type(module).__name__.endswith("Experts") and not isinstance(module, Experts):
                unknown.add(type(module).__name__)
        elif (activation := ACTIVATIONS.get(type(module.act_fn).__name__)) is not None:
            experts = Experts(module, activation, operations)
            model.set_submodule(path, experts)
            kernels_of.setdefault((experts.gate_up_proj.shape, experts.down_proj.shape), experts)
    for experts in kernels_of.values():
        _warm_up(experts)
    for name in sorted(unknown):
        logger.warning("%s of this transformers is not known by its source and stays as it is", name)


def experts_to_pack(model: nn.Module) -> list[PackableExpert]:
    return [unit for module in model.modules() if isinstance(module, Experts) for unit in module.to_pack()]


def _warm_up(experts: Experts) -> None:
    """Have kernels compiled ahead of the first request, in each of the ways that they have."""
    weights = experts.weights
    if weights.gate_up.device.type == "cpu":
        return
    num_chosen = min(2, weights.num_experts)
    for num_tokens in (3, -(-_MANY_PER_EXPERT * weights.num_experts // num_chosen)):
        for dtype in {torch.float32, weights.gate_up.dtype}:  # of shares; routers differ
            inputs = weights.gate_up.new_zeros(num_tokens, weights.gate_up.shape[2])
            indices = torch.arange(num_tokens * num_chosen, device=inputs.device) % weights.num_experts
            indices = indices.view(num_tokens, num_chosen)
            with torch.inference_mode():
                experts(inputs, indices, torch.zeros_like(indices, dtype=dtype))
