"""Quantised copies of tiny models, in both layouts, and the model that their numbers stand for.

Written with plain arithmetic and safetensors' own writer, not with what is under test.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.info import Fp8Layout

FP8 = torch.float8_e4m3fn
ROWS: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "kv_cache_scheme": None,
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
            "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
        }
    },
}
BLOCKS: dict[str, Any] = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "weight_block_size": [128, 128],
}
STATED: dict[Fp8Layout, dict[str, Any]] = {"row": ROWS, "block": BLOCKS}
SUFFIX: dict[Fp8Layout, str] = {"row": "_scale", "block": "_scale_inv"}


def quantise_folder(source: Path, target: Path, layout: Fp8Layout, *, scale_dtype: torch.dtype = torch.float32) -> Path:
    """Every matrix of a layer but routers, as a folder that other programs might have made."""
    shutil.copytree(source, target)
    tensors = load_file(source / "model.safetensors")
    for name in _matrices(tensors):
        tensors[name], tensors[f"{name}{SUFFIX[layout]}"] = _quantise(tensors[name], layout, scale_dtype)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    edit_config(target, quantization_config=STATED[layout])
    return target


def dequantise_folder(source: Path, target: Path, layout: Fp8Layout, dtype: torch.dtype) -> Path:
    """The model that a quantised folder stands for, in this dtype: each number is rounded once."""
    shutil.copytree(source, target)
    tensors = load_file(source / "model.safetensors")
    for name in [name for name, tensor in tensors.items() if tensor.dtype is FP8]:
        scale = tensors.pop(f"{name}{SUFFIX[layout]}").float()
        tensors[name] = (tensors[name].float() * _spread(scale, tensors[name].shape, layout)).to(dtype)
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, target / "model.safetensors")
    edit_config(target, quantization_config=None)
    return target


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def _matrices(tensors: dict[str, torch.Tensor]) -> list[str]:
    return [
        name
        for name, tensor in tensors.items()
        if tensor.dim() == 2 and ".layers." in name and not name.endswith(("gate.weight", "expert_gate.weight"))
    ]


def _quantise(weight: torch.Tensor, layout: Fp8Layout, scale_dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = weight.shape
    height, width = (1, columns) if layout == "row" else (128, 128)
    scale = torch.tensor(
        [
            [
                float(weight[row : row + height, column : column + width].abs().max()) / 448
                for column in range(0, columns, width)
            ]
            for row in range(0, rows, height)
        ]
    ).to(scale_dtype)
    return (weight.float() / _spread(scale.float(), weight.shape, layout)).clamp(-448, 448).to(FP8), scale


def _spread(scale: torch.Tensor, shape: torch.Size, layout: Fp8Layout) -> torch.Tensor:
    """A scale for each number."""
    if layout == "row":
        return scale.view(-1, 1).expand(shape)
    return scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[: shape[0], : shape[1]]
