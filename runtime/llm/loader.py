"""A model folder becomes a module tree of transformers with our weights in it. Owns the way from file to device.

The tree is built with its parameters on the meta device and its buffers real, because transformers computes rotary
frequencies where the module is built. On a CPU weights stay views of the file until they are packed; elsewhere they
are copied tensor by tensor. The weights are never in memory twice.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from models.info import ModelInfo
from runtime.llm import attention
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.file_embedding import FileEmbedding
from runtime.llm.fused_layer import fuse
from runtime.llm.linear import Linear, Packing
from runtime.llm.modeling import import_architecture

ReportFraction = Callable[[float], None]


class LoadedModel(NamedTuple):
    model: Any
    """A `…ForCausalLM` in evaluation mode."""
    packing: Packing
    """Layers that would be faster packed, and are not yet."""


def build_skeleton(directory: Path, info: ModelInfo) -> Any:
    """The module tree without weights."""
    model_class, config_class = import_architecture(
        info.model_type, info.architecture, attention.NAME, attention.attend
    )
    config = config_class.from_dict(json.loads((directory / "config.json").read_bytes()))
    config._attn_implementation = attention.NAME
    with _parameters_on_meta():
        return model_class(config).eval()


def load_weights(
    model: Any,
    directory: Path,
    info: ModelInfo,
    *,
    dtype: torch.dtype,
    device: torch.device,
    is_fused: bool = True,
    report: ReportFraction = lambda fraction: None,
) -> LoadedModel:
    """Make a skeleton ready to run. `is_fused` False keeps transformers' own layers."""
    checkpoint = Checkpoint(directory, (name for name in info.file_sha256 if name.endswith(".safetensors")))
    fill_skeleton(model, checkpoint, info, dtype=dtype, device=device, report=report)
    if is_fused:
        fuse(model, info.attention, checkpoint.drop_pages)
    if device.type == "cpu":
        _read_embeddings_from_file(model, checkpoint, dtype)
    return LoadedModel(model, _make_packable(model, checkpoint))


def fill_skeleton(
    model: Any,
    checkpoint: Checkpoint,
    info: ModelInfo,
    *,
    dtype: torch.dtype,
    device: torch.device,
    report: ReportFraction = lambda fraction: None,
) -> None:
    """Give every parameter its value: a view of the file where dtype and device allow, else a copy."""
    tied = model._tied_weights_keys if info.tied_embeddings else {}
    num_bytes_done = 0
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            stored = checkpoint.tensor(tied.get(name, name))
            tensor = stored.to(device=device, dtype=dtype)
            if tensor.data_ptr() != stored.data_ptr():
                checkpoint.drop_pages(stored)
            assert tensor.shape == parameter.shape, name
            setattr(module, name.removeprefix(f"{path}."), nn.Parameter(tensor, requires_grad=False))
            num_bytes_done += tensor.nbytes
        report(min(1.0, num_bytes_done / info.weight_bytes))
    model.to(device)  # buffers
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters made inside have a shape and nothing else, and nobody draws random values for them."""
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    replaced = [
        (nn.Module, "register_parameter", register_on_meta),
        (nn.Linear, "reset_parameters", lambda module: None),
        (nn.Embedding, "reset_parameters", lambda module: None),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, function in replaced:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def _read_embeddings_from_file(model: Any, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    for path, module in list(model.named_modules()):
        if type(module) is nn.Embedding and (stored := checkpoint.locate(f"{path}.weight")).dtype is dtype:
            model.set_submodule(path, FileEmbedding(stored))


def _make_packable(model: Any, checkpoint: Checkpoint) -> Packing:
    for path, module in list(model.named_modules()):
        if type(module) is nn.Linear:
            model.set_submodule(path, Linear([module], checkpoint.drop_pages))
    layers = [module for module in model.modules() if isinstance(module, Linear) and module.is_packable]
    if layers:
        # The head is the largest by far: packed after the rest has been read, it would add its size to the peak.
        model.lm_head.pack()
        layers.remove(model.lm_head)
    return Packing(layers)
