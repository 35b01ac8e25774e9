"""Quantised checkpoints: which are served, and which of their tensors hold numbers of 8 bits and which their scales.

FP8 (E4M3) weights of the layers' linear products, in two layouts: each row of a weight has a scale, or each block of
128 × 128. A number is what is stored times its scale. Everything else is refused by name; nothing here reads tensors.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from models.info import Fp8Info, Fp8Layout
from models.refusal import CONFIG, ModelRefused, RefusalReason

FP8_DTYPE = "F8_E4M3"
"""safetensors' name."""
FP8_MAX = 448.0
"""The largest number that it holds."""
MULTIPLYING_CAPABILITIES = {(8, 9), (9, 0)}
"""NVIDIA's compute capabilities whose libraries have products of rows with scales. Newer devices convert weights, as
older ones do: cuBLAS refuses these products there."""
CONVERTING_CAPABILITY = (8, 9)
"""From which on NVIDIA's devices convert 8-bit floats by an instruction."""
SCALE_DTYPES = {"F32", "BF16", "F16"}
BLOCK = 128
"""Rows and columns that share a scale in the layout of blocks."""

_FIELDS = ("quantization_config", "compression_config")
_SCALES: dict[Fp8Layout, str] = {"row": "weight_scale", "block": "weight_scale_inv"}
_ACTIVATION_SCALE = "input_scale"
"""Of a checkpoint calibrated to fixed scales of activations: not used, since each token's own is never worse."""
_OF_A_LAYER = re.compile(r"\.\d+\..+\.weight")
_ROUTER = re.compile(r"\.(gate|shared_expert_gate)\.weight")
_CONVERTED = re.compile(r"\.experts\.\d+\.|\.kv_b_proj\.")
"""Experts are products over a stack of weights, and what expands compressed keys is no product of its own."""
_PRODUCT_MULTIPLE = 16
"""Rows and columns of a weight that a device can multiply as it is."""


def read_layout(config: Mapping[str, Any]) -> Fp8Layout | None:
    """What config.json says; None: nothing is quantised. Raises ModelRefused for what is not served."""
    for field in _FIELDS:
        if (stated := config.get(field)) is not None:
            if not isinstance(stated, dict):
                raise _refusal(f"{field}: is no object")
            return _read_layout(field, stated)
    return None


def quantization_config(ignored: list[str]) -> dict[str, Any]:
    """Of a checkpoint in the layout of rows, as other programs read it; `ignored`: linear layers that stay as is."""
    eight_bits = {"num_bits": 8, "type": "float", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**eight_bits, "strategy": "channel", "dynamic": False},
        "input_activations": {**eight_bits, "strategy": "token", "dynamic": True},
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ignored,
    }


def is_quantisable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of an architecture is the weight of a product in a layer: no embedding, head, norm or router."""
    return len(shape) == 2 and _OF_A_LAYER.search(name) is not None and _ROUTER.search(name) is None


def stays_fp8(layout: Fp8Layout, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a quantised weight is multiplied as it is where the device can; others are converted while loading."""
    is_even = not any(size % _PRODUCT_MULTIPLE for size in shape)
    return layout == "row" and is_even and _CONVERTED.search(name) is None


def scale_name(layout: Fp8Layout, weight: str) -> str:
    return f"{weight.removesuffix('weight')}{_SCALES[layout]}"


def activation_scale_name(weight: str) -> str:
    return f"{weight.removesuffix('weight')}{_ACTIVATION_SCALE}"


def scale_shapes(layout: Fp8Layout, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All that mean the same."""
    rows, columns = shape
    if layout == "row":
        return [(rows, 1), (rows,)]
    return [(-(-rows // BLOCK), -(-columns // BLOCK))]


def describe_fp8(layout: Fp8Layout, weights: Mapping[str, tuple[int, ...]]) -> Fp8Info:
    """Of these quantised weights, by name."""
    staying = [shape for name, shape in weights.items() if stays_fp8(layout, name, shape)]
    return Fp8Info(
        layout=layout,
        num_parameters=sum(math.prod(shape) for shape in weights.values()),
        num_staying_parameters=sum(math.prod(shape) for shape in staying),
        num_staying_rows=sum(rows for rows, _ in staying),
    )


def _read_layout(field: str, stated: dict[str, Any]) -> Fp8Layout:
    method = stated.get("quant_method")
    if method == "fp8":
        return _read_blocks(field, stated)
    # Files of an older kind have the second field, and it names no method.
    if method != "compressed-tensors" and (method is not None or field == "quantization_config"):
        raise _refusal(f"{field}: weights quantised by {str(method)[:40]!r} are not supported")
    if stated.get("format") != "float-quantized":
        raise _refusal(f"{field}: the format {str(stated.get('format'))[:40]!r} is not supported, only float-quantized")
    if stated.get("kv_cache_scheme") is not None:
        raise _refusal(f"{field}: a quantised KV cache (kv_cache_scheme) is not supported")
    groups = stated.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise _refusal(f"{field}: config_groups names no group")
    for group in groups.values():
        _check_group(field, group)
    return "row"


def _read_blocks(field: str, stated: dict[str, Any]) -> Fp8Layout:
    if stated.get("weight_block_size") != [BLOCK, BLOCK]:
        size = str(stated.get("weight_block_size"))[:40]
        raise _refusal(f"{field}: fp8 with weight_block_size {size} is not supported, only [{BLOCK}, {BLOCK}]")
    if stated.get("fmt", "e4m3") != "e4m3":
        raise _refusal(f"{field}: fp8 of the format {str(stated['fmt'])[:40]!r} is not supported, only e4m3")
    return "block"


def _check_group(field: str, group: Any) -> None:
    match group:
        case {"weights": {"num_bits": 8, "type": "float", "strategy": "channel", **rest}}:
            if rest.get("symmetric", True) is not True:
                raise _refusal(f"{field}: weights that are not symmetric are not supported")
        case {"weights": {"strategy": strategy}}:
            message = (
                f"{field}: weights scaled by {str(strategy)[:40]!r} are not supported, only 8-bit floats by channel"
            )
            raise _refusal(message)
        case _:
            raise _refusal(f"{field}: a group does not say how weights are stored")
    match group.get("input_activations"):
        case None | {"num_bits": 8, "type": "float", "strategy": "token" | "tensor"}:
            return
    raise _refusal(f"{field}: activations in anything but 8-bit floats, by token or tensor, are not supported")


def _refusal(message: str) -> ModelRefused:
    return ModelRefused(RefusalReason.UNSUPPORTED_QUANTIZATION, message, CONFIG)
