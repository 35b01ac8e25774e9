"""LoRA addons of image models: a file becomes matrices on the device, and a step adds them where rows ask for them.

Nothing is built into the model: layers that an addon changes are watched only while some picture of a step wants it.
So pictures with different addons, and with none, are computed side by side.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.functional import conv2d, linear

from runtime.engine import LoadRefused
from runtime.message import FailureCode

RANK_MAX = 256

Layer = nn.Linear | nn.Conv2d
_METADATA = "lora_adapter_metadata"


class LowRankChange(NamedTuple):
    """What is added to a layer's output: narrowed, widened, scaled."""

    narrowing: torch.Tensor
    widening: torch.Tensor
    alpha: float

    def scaling(self, scale: float) -> float:
        """In peft's order, so that it is rounded as there."""
        return scale * self.alpha / len(self.narrowing)


class LoraAdapter:
    """Never changed once it is made; lives as long as the last request that has it."""

    def __init__(self, changes: dict[Layer, LowRankChange], file_sha256: Mapping[str, str]) -> None:
        self.changes = changes
        self.file_sha256 = dict(file_sha256)


class Wanted(NamedTuple):
    """By a row of a batch."""

    adapter: LoraAdapter | None
    scale: float


class Adaptation:
    """Makes the model's layers add what the rows of the next forward passes want."""

    def __init__(self) -> None:
        self._rows: list[Wanted] = []
        self._watches: list[Any] = []

    def set_rows(self, rows: Sequence[Wanted]) -> None:
        if list(rows) == self._rows:
            return
        self.clear()
        self._rows = list(rows)
        by_wanted: dict[Wanted, list[int]] = {}
        for index, wanted in enumerate(rows):
            if wanted.adapter is not None:
                by_wanted.setdefault(wanted, []).append(index)
        for wanted, indices in by_wanted.items():
            assert wanted.adapter is not None
            chosen = None if len(indices) == len(rows) else torch.tensor(indices)
            for layer, change in wanted.adapter.changes.items():
                self._watches.append(layer.register_forward_hook(_adder(change, wanted.scale, chosen)))

    def clear(self) -> None:
        """Afterwards it holds no adapter."""
        for watch in self._watches:
            watch.remove()
        self._rows, self._watches = [], []


def _adder(change: LowRankChange, scale: float, chosen: torch.Tensor | None) -> Callable[..., torch.Tensor]:
    """`chosen` None: every row."""
    scaling = change.scaling(scale)

    def add(layer: Layer, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        if chosen is None:
            return output + _changed(layer, inputs[0], change) * scaling
        rows = chosen.to(output.device)
        return output.index_add(0, rows, _changed(layer, inputs[0][rows], change) * scaling)

    return add


def _changed(layer: Layer, inputs: torch.Tensor, change: LowRankChange) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return linear(linear(inputs, change.narrowing), change.widening)
    narrow = conv2d(inputs, change.narrowing, None, layer.stride, layer.padding, layer.dilation)
    return conv2d(narrow, change.widening)


# ---- from a file


class BaseModel(NamedTuple):
    """What adapters are made for."""

    parts: Mapping[str, Any]
    """By name, e.g. unet, text_encoder."""
    dtype: torch.dtype
    device: torch.device


def read_adapter(directory: Path, file_sha256: Mapping[str, str], base: BaseModel) -> LoraAdapter:
    """Raises LoadRefused for an addon that does not fit."""
    files = [name for name in file_sha256 if name.endswith(".safetensors")]
    if len(files) != 1:
        raise LoadRefused("a LoRA addon for images is one .safetensors file")
    try:
        tensors, settings = _read(directory / files[0])
        matrices, alphas = _by_layer(tensors, base)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        # The readers of the many layouts fail as they please on what they do not know.
        raise LoadRefused(f"{files[0]}: no layout of LoRA weights that is known") from error
    layers = {path: _find_layer(path, base) for path in {name.rpartition(".lora_")[0] for name in matrices}}
    changes = {}
    for path, layer in sorted(layers.items()):
        narrowing, widening = matrices.get(f"{path}.lora_A.weight"), matrices.get(f"{path}.lora_B.weight")
        if narrowing is None or widening is None:
            raise LoadRefused(f"{path}: has one matrix of the two")
        _check_matrices(path, layer, narrowing, widening)
        alpha = _alpha(path, alphas, settings, rank=len(narrowing))
        # Copied: how a product is rounded on a CPU depends on where in memory it begins, and a file begins anywhere.
        placed = [matrix.to(base.device, base.dtype, copy=True).contiguous() for matrix in (narrowing, widening)]
        changes[layer] = LowRankChange(placed[0], placed[1], alpha)
    return LoraAdapter(changes, file_sha256)


def _read(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors, and peft's settings where the file has them."""
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dictionary
        metadata = stored.metadata() or {}
    for name, tensor in tensors.items():
        if any(word in name for word in ("dora_scale", "magnitude", "hada_", "lokr_", "lora_mid", ".diff")):
            raise LoadRefused(f"{name}: only plain LoRA is supported")
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise LoadRefused(f"{name}: has values that are no numbers")
    settings = json.loads(metadata[_METADATA]) if _METADATA in metadata else {}
    if any(value for key, value in settings.items() if key.endswith((".use_dora", ".use_rslora", ".lora_bias"))):
        raise LoadRefused("use_dora, use_rslora and lora_bias are not supported")
    return tensors, settings


def _by_layer(tensors: dict[str, torch.Tensor], base: BaseModel) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Matrices by the layer's own name with its part's before it, in whatever layout they came; alphas likewise."""
    if "unet" in base.parts:
        converted, alphas, _ = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
            tensors, unet_config=base.parts["unet"].config, return_lora_metadata=True
        )
    else:
        converted, alphas, _ = FluxLoraLoaderMixin.lora_state_dict(
            tensors, return_alphas=True, return_lora_metadata=True
        )
    matrices: dict[str, torch.Tensor] = {}
    by_path: dict[str, float] = {}
    for part in base.parts:
        matrices |= _renamed(converted, part)
        narrowing_alphas = {_narrowing_name(name, converted): float(alpha) for name, alpha in (alphas or {}).items()}
        renamed = _renamed(narrowing_alphas, part)
        by_path |= {name.removesuffix(".lora_A.weight"): alpha for name, alpha in renamed.items()}
    if len(matrices) != len(converted) or not matrices:
        strange = next((name for name in converted if name.partition(".")[0] not in base.parts), "no tensor")
        raise LoadRefused(f"{strange}: belongs to no part of this model")
    return matrices, by_path


def _renamed(values: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Those of one part, under peft's names; whatever the values are."""
    own = {name.removeprefix(f"{part}."): value for name, value in values.items() if name.startswith(f"{part}.")}
    if part.startswith("text_encoder") and own:
        own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
        own = {name.removeprefix("text_model."): value for name, value in own.items()}
    elif own and "lora_A" not in next(iter(own)):
        own = convert_unet_state_dict_to_peft(own)
    return {f"{part}.{name}": value for name, value in own.items()}


def _narrowing_name(alpha_name: str, converted: Mapping[str, torch.Tensor]) -> str:
    """The name of the matrix whose alpha this is."""
    stem = alpha_name.removesuffix(".alpha")
    return next(name for name in (stem, f"{stem}.lora.down.weight", f"{stem}.lora_A.weight") if name in converted)


def _alpha(path: str, alphas: Mapping[str, float], settings: Mapping[str, Any], *, rank: int) -> float:
    """The rank where nobody says, which leaves the product as it is."""
    if path in alphas:
        return alphas[path]
    if alphas:
        raise LoadRefused(f"{path}: has no alpha, and others have")
    part, _, layer = path.partition(".")
    patterns = settings.get(f"{part}.alpha_pattern") or {}
    found = [value for pattern, value in patterns.items() if layer == pattern or layer.endswith(f".{pattern}")]
    return float(found[0] if found else settings.get(f"{part}.lora_alpha", rank))


def _find_layer(path: str, base: BaseModel) -> Layer:
    part, _, name = path.partition(".")
    try:
        layer = base.parts[part].get_submodule(name)
    except (KeyError, AttributeError) as error:
        raise LoadRefused(f"{path}: this model has no such layer") from error
    if not isinstance(layer, nn.Linear | nn.Conv2d) or (isinstance(layer, nn.Conv2d) and layer.groups != 1):
        raise LoadRefused(f"{path}: layers of this kind are not adapted")
    return layer


def _check_matrices(path: str, layer: Layer, narrowing: torch.Tensor, widening: torch.Tensor) -> None:
    rank = len(narrowing)
    if not 0 < rank <= RANK_MAX:
        raise LoadRefused(f"{path}: its rank is {rank}; at most {RANK_MAX} is served", FailureCode.INVALID)
    if isinstance(layer, nn.Linear):
        expected: tuple[tuple[int, ...], ...] = (rank, layer.in_features), (layer.out_features, rank)
    else:
        expected = (rank, layer.in_channels, *layer.kernel_size), (layer.out_channels, rank, 1, 1)
    if (tuple(narrowing.shape), tuple(widening.shape)) != expected:
        raise LoadRefused(f"{path}: its matrices are not made for this model's layer")
