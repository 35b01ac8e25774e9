"""Where in a loaded model the linear layers of its checkpoint are computed: addons name those, not our products.

A fused layer or MLP computes several of them side by side, each in some columns of one output.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from runtime.llm.linear import Linear
from runtime.llm.patches.fused_layer import SOURCES, FusedLayer
from runtime.llm.patches.gated_mlp import MLP_SOURCES, GatedMlp


class Place(NamedTuple):
    """Columns `start` to `stop` of what `linear` puts out."""

    linear: Linear
    start: int
    stop: int


def find_places(model: Any, paths: Iterable[str]) -> dict[str, Place]:
    """Of these linear layers, by their paths in transformers' text model; all of them are somewhere in `model`."""
    places: dict[str, Place] = {}
    for path, module in model.named_modules():
        if isinstance(module, Linear):
            places[path] = Place(module, 0, sum(module.output_sizes))
        elif isinstance(module, FusedLayer | GatedMlp):
            for name, sources in (SOURCES if isinstance(module, FusedLayer) else MLP_SOURCES).items():
                places |= _side_by_side(getattr(module, name), [f"{path}.{source}" for source in sources])
    return {path: places[path] for path in paths}


def _side_by_side(linear: Linear, paths: list[str]) -> dict[str, Place]:
    places = {}
    start = 0
    for path, size in zip(paths, linear.output_sizes, strict=True):
        places[path] = Place(linear, start, start + size)
        start += size
    return places
