"""The weights of a mixture's experts, and the products with those of one expert on a CPU.

Experts lie stacked in two tensors, as transformers keeps them and as the loader fills them. On a CPU each may be
packed, as `linear.py` has it; what was packed is given back from the stack, so that no weight is in memory twice.
"""

import torch
from torch.nn import functional

from runtime.llm.linear import PackedWeight, can_pack
from runtime.memory import discard_pages


class ExpertWeights:
    def __init__(self, gate_up: torch.Tensor, down: torch.Tensor) -> None:
        self.gate_up = gate_up
        """[experts, gate's rows and then up's, inputs]"""
        self.down = down
        """[experts, outputs, rows of gate]"""
        self.num_experts = len(gate_up)
        self._packed: dict[int, tuple[PackedWeight, PackedWeight]] = {}

    def multiply_gate_up(self, expert: int, inputs: torch.Tensor) -> torch.Tensor:
        if expert in self._packed:
            return self._packed[expert][0].multiply(inputs)
        return functional.linear(inputs, self.gate_up[expert])

    def multiply_down(self, expert: int, inputs: torch.Tensor) -> torch.Tensor:
        if expert in self._packed:
            return self._packed[expert][1].multiply(inputs)
        return functional.linear(inputs, self.down[expert])

    def pack(self, expert: int) -> None:
        weights = (self.gate_up[expert], self.down[expert])
        self._packed[expert] = (PackedWeight(weights[0]), PackedWeight(weights[1]))
        for weight in weights:
            discard_pages(weight)

    def to_pack(self) -> list["PackableExpert"]:
        """None where packing is not to be had."""
        if not can_pack(self.gate_up.dtype, self.gate_up.device):
            return []
        return [PackableExpert(self, expert) for expert in range(self.num_experts)]


class PackableExpert:
    """One at a time: all of a layer would be a long step."""

    is_packable = True

    def __init__(self, weights: ExpertWeights, expert: int) -> None:
        self._weights = weights
        self._expert = expert

    def pack(self) -> None:
        self._weights.pack(self._expert)
