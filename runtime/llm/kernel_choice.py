"""Who computes the small operations of a step: Triton kernels on CUDA, C on CPUs that have it compiled, and plain torch
everywhere else and where kernels are switched off (`LlmSettings.enable_kernels`).

Triton is a gigabyte, so it is imported here alone, and only when kernels are chosen.
"""

import importlib.util
import logging
from typing import NamedTuple

import torch

from runtime.llm.adapters.stacks import LoraKernels
from runtime.llm.native import library
from runtime.llm.native.operations import NATIVE
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.sampling.kernels import SamplingKernels

logger = logging.getLogger(__name__)


class Kernels(NamedTuple):
    layer: LayerOperations = PLAIN
    sampling: SamplingKernels | None = None
    """None: the sampler's plain rules."""
    lora: LoraKernels | None = None
    """None: each adapter by itself, in plain torch."""


NO_KERNELS = Kernels()


def choose_kernels(device: torch.device, dtype: torch.dtype, *, are_enabled: bool) -> Kernels:
    """Triton compiles for compute capability 8 and later what these kernels need."""
    if are_enabled and device.type == "cpu" and dtype is torch.bfloat16 and library.load() is not None:
        return Kernels(NATIVE)
    if not are_enabled or device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return NO_KERNELS
    if importlib.util.find_spec("triton") is None:
        logger.warning("triton is not installed: this model is served without kernels, at a lower speed")
        return NO_KERNELS
    return triton_kernels()


def triton_kernels() -> Kernels:
    from runtime.llm.attention_triton import rotate_and_attend
    from runtime.llm.kernels import experts, glu, lora, norm, rotary, sampling

    layer = LayerOperations(
        norm.add_norm, glu.gate, rotary.rotate, experts.mix_experts, rotate_and_attend=rotate_and_attend
    )
    return Kernels(layer, sampling, lora)
