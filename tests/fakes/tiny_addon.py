"""Tiny random LoRA addons for the models of `tiny_llm.py`, in folders as peft saves them; the test of it asks peft.

Both matrices are drawn wide (standard deviation 0.3), so that an addon changes nearly every token that is generated.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.addon_config import ADDON_CONFIG
from models.addons import ADDON_WEIGHTS, adaptable_layers

SPREAD = 0.3


def build_tiny_addon(
    directory: Path,
    base_directory: Path,
    *,
    seed: int = 1,
    rank: int = 4,
    alpha: float = 8,
    target_modules: Sequence[str] | None = None,
    dtype: str = "float32",
    text_model: str = "model.",
    **config_overrides: Any,
) -> Path:
    """Write config and weights; the same arguments give the same bytes. `target_modules` None: every linear layer.

    `text_model` stands before the paths of a text model's layers, which a model that reads images has elsewhere.
    """
    shapes = adaptable_layers(base_directory)
    wanted = sorted({module.rpartition(".")[2] for module in shapes} if target_modules is None else target_modules)
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for module, (num_rows, num_columns) in shapes.items():
        if module.rpartition(".")[2] in wanted:
            for matrix, shape in (("A", (rank, num_columns)), ("B", (num_rows, rank))):
                values = SPREAD * torch.randn(shape, generator=generator)
                path = module.replace("model.", text_model, 1)
                tensors[f"base_model.model.{path}.lora_{matrix}.weight"] = values.to(getattr(torch, dtype))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "a tiny model",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": wanted,
        "bias": "none",
        "inference_mode": True,
        **config_overrides,
    }
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / ADDON_WEIGHTS, metadata={"format": "pt"})
    (directory / ADDON_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
    return directory
