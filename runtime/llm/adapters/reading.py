"""A PEFT addon's folder becomes an adapter on its device. Owns the reasons why an addon is not taken up."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from models.addons import ADDON_WEIGHTS, addon_tensor_name, inspect_addon
from models.info import ModelInfo
from models.refusal import ModelRefused
from runtime.engine import LoadRefused
from runtime.llm.adapters.adapter import LoraAdapter, LowRankChange, Widening
from runtime.llm.adapters.places import Place
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.linear import Linear


class BaseModel(NamedTuple):
    """What adapters are made for."""

    directory: Path
    info: ModelInfo
    places: dict[str, Place]
    dtype: torch.dtype
    device: torch.device


def read_adapter(directory: Path, file_sha256: Mapping[str, str], base: BaseModel, *, rank_max: int) -> LoraAdapter:
    """Raises LoadRefused for an addon that does not fit, or is not the one that was imported."""
    try:
        info = inspect_addon(directory, base.directory, base.info, known_sha256=file_sha256, rank_max=rank_max)
    except ModelRefused as refusal:
        raise LoadRefused(refusal.message) from refusal
    if changed := sorted({name for name, _ in info.file_sha256.items() ^ file_sha256.items()}):
        raise LoadRefused(f"these files are not what was imported: {', '.join(changed)}")
    checkpoint = Checkpoint(directory, [ADDON_WEIGHTS], lambda stored: addon_tensor_name(stored, base.info))
    suffix = ".lora_A.weight"
    paths = [name.removesuffix(suffix) for name in checkpoint.names if name.endswith(suffix)]
    by_linear: dict[Linear, list[tuple[str, Place]]] = {}
    for path in paths:
        by_linear.setdefault(base.places[path].linear, []).append((path, base.places[path]))
    changes = {}
    for linear, adapted in by_linear.items():
        narrowing = torch.cat([checkpoint.tensor(f"{path}.lora_A.weight") for path, _ in adapted])
        widenings = [
            Widening(place.start, place.stop, _widening(checkpoint, path, info.scaling, base.dtype).to(base.device))
            for path, place in adapted
        ]
        changes[linear] = LowRankChange(narrowing.to(base.device, base.dtype), widenings)
    return LoraAdapter(changes, info.file_sha256)


def _widening(checkpoint: Checkpoint, path: str, scaling: float, dtype: torch.dtype) -> torch.Tensor:
    """Scaled before it is rounded to the dtype that is served."""
    matrix = checkpoint.tensor(f"{path}.lora_B.weight").float() * scaling
    return matrix.t().to(dtype).contiguous()
