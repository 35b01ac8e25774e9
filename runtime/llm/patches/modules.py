"""Norms and gated MLPs of models that keep transformers' own layers, exchanged for ones that compute by kernels.

Without kernels nothing is exchanged, for torch's own operations would gain nothing by it.
"""

import logging
from typing import Any

from torch import nn

from runtime.llm.linear import Release
from runtime.llm.patches.gated_mlp import GatedMlp, activation_of
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.patches.norm import FusedNorm, scale_of

logger = logging.getLogger(__name__)


def patch(model: Any, release: Release, operations: LayerOperations) -> None:
    """Exchange what can be exchanged; the log names what looks like it and has a source that is not known."""
    if operations is PLAIN:
        return
    unknown: set[str] = set()
    for path, module in list(model.named_modules()):
        if (replacement := _replacement(module, release, operations)) is not None:
            model.set_submodule(path, replacement)
        elif _resembles(module):
            unknown.add(type(module).__name__)
    for name in sorted(unknown):
        logger.warning("%s of this transformers is not known by its source and stays without kernels", name)


def _replacement(module: nn.Module, release: Release, operations: LayerOperations) -> nn.Module | None:
    scale = scale_of(module)
    if scale is not None and not scale.is_centred:  # torch's layer norm is one operation
        return FusedNorm(scale, operations)
    if (activation := activation_of(module)) is not None:
        return GatedMlp(module, activation, release, operations)
    return None


def _resembles(module: nn.Module) -> bool:
    """Ours is called otherwise."""
    return type(module).__name__.endswith("RMSNorm") or hasattr(module, "gate_proj")
