"""The adapters' part of a model's load: nothing but places that are set aside, until the daemon names an adapter."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.addons import adaptable_layers
from models.info import ModelInfo
from models.sizing import adapters_bytes
from runtime.adapter_shelf import AdapterShelf, no_adapters
from runtime.llm.adapters.adaptation import Adaptation
from runtime.llm.adapters.adapter import LoraAdapter
from runtime.llm.adapters.places import find_places
from runtime.llm.adapters.reading import BaseModel, read_adapter
from runtime.protocol import LoadAdapter
from runtime.settings import LlmSettings


class AdapterSupport(NamedTuple):
    shelf: AdapterShelf
    adaptation: Adaptation | None
    """None: this model is only ever served as it is."""
    num_bytes: int
    """Set aside, and not touched yet."""


def support_adapters(model: Any, directory: Path, info: ModelInfo, settings: LlmSettings) -> AdapterSupport:
    """`model` is loaded already."""
    if not settings.max_num_adapters:
        return AdapterSupport(no_adapters(), None, 0)
    device = torch.device(settings.device)
    places = find_places(model, adaptable_layers(directory))
    base = BaseModel(directory, info, places, getattr(torch, settings.dtype), device)

    def read(load: LoadAdapter) -> LoraAdapter:
        return read_adapter(Path(load.directory), load.file_sha256, base, rank_max=settings.max_adapter_rank)

    num_bytes = adapters_bytes(
        info, settings.dtype, settings.max_num_adapters, settings.max_adapter_rank, settings.max_batch_tokens
    )
    shelf = AdapterShelf(read, settings.max_num_adapters)
    return AdapterSupport(shelf, Adaptation((place.linear for place in places.values()), device), num_bytes)
