"""Norms and gated MLPs of models that keep transformers' own layers, exchanged for ones that compute by kernels.

A class is known by its name; whether it still computes what it did is found out by computing: the first of each is
tried against its replacement, and a class that differs stays as it is, and the log says so. Without kernels nothing is
exchanged, for torch's own operations would gain nothing by it.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runtime.llm.linear import Linear
from runtime.llm.patches.operations import PLAIN, Activation, LayerOperations, Scale

logger = logging.getLogger(__name__)

Release = Callable[[torch.Tensor], None]

_NORMS = {"DeepseekV2RMSNorm", "MixtralRMSNorm", "Phi3RMSNorm", "Qwen2MoeRMSNorm", "Qwen3MoeRMSNorm"}
_SHIFTED_NORMS = {"GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm"}
_GATED_MLPS = {
    "DeepseekV2MLP", "GemmaMLP", "Gemma2MLP", "Gemma3MLP", "Qwen2MoeMLP", "Qwen3MoeMLP", "StableLmMLP",
}  # fmt: skip
_ACTIVATIONS: dict[str, Activation] = {
    "SiLUActivation": "silu",
    "SiLU": "silu",
    "GELUActivation": "gelu",
    "GELUTanh": "gelu_tanh",
}
_TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Relative; two roundings of the dtype, and a sum in another order."""
_NUM_TRIED = 3

MLP_SOURCES = {"gate_up": ("gate_proj", "up_proj"), "mlp_output": ("down_proj",)}
"""Products of a GatedMlp, and the layers of transformers that each computes side by side."""


class KernelNorm(nn.Module):
    """An RMS norm that adds nothing: the sums stay with the layers of transformers."""

    def __init__(self, scale: Scale, operations: LayerOperations) -> None:
        super().__init__()
        self._scale = scale
        self._add_rms_norm = operations.add_rms_norm

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self._add_rms_norm(hidden_states, None, self._scale)[0]


class GatedMlp(nn.Module):
    def __init__(self, source: Any, activation: Activation, operations: LayerOperations, release: Release) -> None:
        super().__init__()
        self.gate_up = Linear([source.gate_proj, source.up_proj], release)
        self.mlp_output = Linear([source.down_proj], release)
        self._activation = activation
        self._gate = operations.gate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.mlp_output(self._gate(self.gate_up(hidden_states), self._activation))
        return output


def patch(model: Any, release: Release, operations: LayerOperations) -> list[str]:
    """Exchange what can be exchanged; returns the names of the classes that were."""
    verdicts: dict[str, bool] = {}
    if operations is PLAIN:
        return []
    for path, module in list(model.named_modules()):
        name = type(module).__name__
        if not verdicts.get(name, True):
            continue
        replacement = _replacement(module, operations, release)
        if replacement is None:
            continue
        if name not in verdicts:
            verdicts[name] = _computes_the_same(module, replacement)
        if verdicts[name]:
            model.set_submodule(path, replacement)
        else:
            logger.warning("%s of this transformers computes something new and stays without kernels", name)
    return [name for name, is_same in verdicts.items() if is_same]


def _replacement(module: Any, operations: LayerOperations, release: Release) -> nn.Module | None:
    name = type(module).__name__
    if name in _NORMS:
        return KernelNorm(Scale(module.weight.detach(), float(module.variance_epsilon)), operations)
    if name in _SHIFTED_NORMS:
        return KernelNorm(Scale(module.weight.detach(), float(module.eps), is_shifted=True), operations)
    if name not in _GATED_MLPS:
        return None
    activation = _ACTIVATIONS.get(type(module.act_fn).__name__)
    if activation is None or module.gate_proj.weight.dtype not in _TOLERANCES:
        return None  # 8-bit floats stay with layers that know their scales
    return GatedMlp(module, activation, operations, release)


def _computes_the_same(module: Any, replacement: nn.Module) -> bool:
    weight = module.weight if hasattr(module, "weight") else module.gate_proj.weight
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1, _NUM_TRIED, weight.shape[-1], generator=generator).to(weight)
    with torch.inference_mode():
        expected, found = module(inputs).float(), replacement(inputs).float()
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) <= _TOLERANCES[weight.dtype] * largest
