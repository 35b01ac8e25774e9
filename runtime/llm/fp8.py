"""Arithmetic of FP8 (E4M3): numbers become 8-bit floats times a scale of their row, and numbers again.

The nearest 8-bit float is within 1/16 of a number, or within SMALLEST_STEP / 2 of a row's scale where that is more.
Knows tensors only, nothing of models or files.
"""

import torch
from torch.nn.functional import ScalingType, scaled_mm

from models.fp8 import BLOCK, CONVERTING_CAPABILITY, FP8_MAX, MULTIPLYING_CAPABILITIES
from models.info import Fp8Layout

FP8 = torch.float8_e4m3fn
SMALLEST_STEP = 2.0**-9
"""Between 8-bit floats around zero."""
SMALLEST_SCALE = 2.0**-126
"""A row of zeros needs one, too: the least that float32 holds in full."""


def can_multiply(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products of 8-bit floats with this result are had on the device: it is tried and compared."""
    if device.type != "cuda" or dtype is not torch.bfloat16:
        return False
    if torch.cuda.get_device_capability(device) not in MULTIPLYING_CAPABILITIES:
        return False
    factors = torch.arange(1, 32 * 64 + 1, dtype=torch.float32, device=device).sin().view(32, 64)
    inputs, weight = quantise_rows(factors[:16]), quantise_rows(factors[16:])
    try:
        found = multiply(*inputs, *weight, None, dtype)
    except RuntimeError:
        return False
    return torch.allclose(found.float(), multiply_plainly(*inputs, *weight, None, dtype).float(), rtol=2e-2, atol=2e-2)


def has_fp8(device: torch.device) -> bool:
    """Whether the device converts 8-bit floats by itself."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= CONVERTING_CAPABILITY


def quantise_rows(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, columns] as 8-bit floats, and float32 scales [rows, 1]: the largest number of a row becomes FP8_MAX."""
    scale = numbers.abs().amax(dim=-1, keepdim=True).float().div_(FP8_MAX).clamp_(min=SMALLEST_SCALE)
    return numbers.div(scale).clamp_(-FP8_MAX, FP8_MAX).to(FP8), scale


def rescale(layout: Fp8Layout, numbers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """8-bit floats that were converted to the dtype of `numbers` become, in place, what they stand for."""
    scale = scale.float()
    if layout == "row":
        return numbers.mul_(scale.view(-1, 1))
    for index, scales in enumerate(scale):
        numbers[index * BLOCK : (index + 1) * BLOCK].mul_(scales.repeat_interleave(BLOCK)[: numbers.shape[1]])
    return numbers


def multiply(
    inputs: torch.Tensor,
    input_scale: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """inputs × weightᵀ + bias, of 8-bit floats [rows, columns] with scales [rows, 1] each."""
    by_row = ScalingType.RowWise
    return scaled_mm(inputs, weight.t(), input_scale, by_row, weight_scale.t(), by_row, bias=bias, output_dtype=dtype)


def multiply_plainly(
    inputs: torch.Tensor,
    input_scale: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The same in float32 and in plain operations, which every device has: what `multiply` is compared with."""
    product = (inputs.float() @ weight.float().t()).mul_(input_scale).mul_(weight_scale.t())
    return (product if bias is None else product.add_(bias.float())).to(dtype)
