"""The adapters' part of a model's load: nothing but places that are set aside, until the daemon names an adapter."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.addons import adaptable_layers
from models.info import ModelInfo
from models.sizing import adapters_bytes
from runtime.adapter_shelf import AdapterShelf, no_adapters
from runtime.llm.adapters.adaptation import Adaptation, PlainAdaptation
from runtime.llm.adapters.adapter import LoraAdapter
from runtime.llm.adapters.places import find_places
from runtime.llm.adapters.reading import BaseModel, read_adapter
from runtime.llm.adapters.stacked_adaptation import StackedAdaptation
from runtime.llm.adapters.stacks import AdapterStacks, LoraKernels, SlottedAdapter
from runtime.protocol import LoadAdapter
from runtime.settings import LlmSettings


class AdapterSupport(NamedTuple):
    shelf: AdapterShelf
    adaptation: Adaptation | None
    """None: this model is only ever served as it is."""
    num_bytes: int
    """Set aside, and not touched yet."""


def support_adapters(
    model: Any, directory: Path, info: ModelInfo, settings: LlmSettings, kernels: LoraKernels | None = None
) -> AdapterSupport:
    """`model` is loaded already. With kernels adapters lie in slots that take their memory at once."""
    if not settings.max_num_adapters:
        return AdapterSupport(no_adapters(), None, 0)
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    shapes = adaptable_layers(directory)
    places = find_places(model, shapes)
    num_bytes = adapters_bytes(
        info, settings.dtype, settings.max_num_adapters, settings.max_adapter_rank, settings.max_batch_tokens
    )

    def read(load: LoadAdapter, base: BaseModel) -> LoraAdapter:
        return read_adapter(Path(load.directory), load.file_sha256, base, rank_max=settings.max_adapter_rank)

    if kernels is None:
        base = BaseModel(directory, info, places, dtype, device)
        shelf = AdapterShelf(lambda load: read(load, base), settings.max_num_adapters)
        linears = (place.linear for place in places.values())
        return AdapterSupport(shelf, PlainAdaptation(linears, device), num_bytes)

    stacks = AdapterStacks(
        places,
        shapes,
        num_slots=settings.max_num_adapters,
        rank_max=settings.max_adapter_rank,
        dtype=dtype,
        device=device,
    )
    adaptation = StackedAdaptation(stacks, kernels, max_batch_tokens=settings.max_batch_tokens, device=device)
    adaptation.warm_up()
    host_base = BaseModel(directory, info, places, dtype, torch.device("cpu"))

    def place(load: LoadAdapter) -> SlottedAdapter:
        return stacks.place(read(load, host_base))

    shelf = AdapterShelf(place, settings.max_num_adapters)
    return AdapterSupport(shelf, adaptation, max(0, num_bytes - adaptation.size_bytes))
