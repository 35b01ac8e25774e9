"""A model folder becomes a module tree of transformers with our weights in it. Owns the way from file to device.

The tree is built with its parameters on the meta device and its buffers real, because transformers computes rotary
frequencies where the module is built. On a CPU weights stay views of the file until they are packed; elsewhere all of
them lie in one arena. The weights are never in memory twice. Quantised ones are converted one by one, unless the
device multiplies them as they are.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from models.info import ModelInfo
from models.vision import text_config, text_half
from runtime.llm import attention
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.file_embedding import FileEmbedding
from runtime.llm.fp8 import FP8
from runtime.llm.fp8_linear import SCALE, make_linear
from runtime.llm.linear import Linear, Packing, Release
from runtime.llm.modeling import import_architecture
from runtime.llm.parallel.cut import Cut
from runtime.llm.patches.experts import experts_to_pack, patch_experts
from runtime.llm.patches.fused_layer import SOURCES, fuse
from runtime.llm.patches.gated_mlp import MLP_SOURCES
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.patches.mla import absorb
from runtime.llm.patches.modules import patch
from runtime.llm.rotary import choose_frequencies, keep_frequencies
from runtime.llm.stored_names import is_stacked, read_stacked, stacked_names, stored_name
from runtime.llm.stored_weights import read_fp8, read_scale, read_weight, rescale_in_place, stays_fp8
from runtime.llm.vision.positions import MultimodalRotary
from runtime.llm.weight_arena import Wanted, plan_arena
from runtime.llm.weight_transfer import Durations, elapsed_ms, mark, transfer

ReportFraction = Callable[[float], None]

WHOLE: Mapping[str, Cut] = {}

_MERGED = {
    tuple(path.rpartition(".")[2] for path in paths)
    for paths in (*SOURCES.values(), *MLP_SOURCES.values())
    if len(paths) > 1
}
"""Layers of transformers that become one product."""


class LoadedModel(NamedTuple):
    model: Any
    """A `…ForCausalLM` in evaluation mode."""
    packing: Packing
    """Layers that would be faster packed, and are not yet."""
    durations: Durations | None
    """Of what goes on side by side when there is an arena to fill."""


def build_skeleton(directory: Path, info: ModelInfo, max_context_length: int | None = None) -> Any:
    """The module tree of the text half without weights, for requests of up to so many tokens, or all the model can."""
    text = text_half(info)
    model_class, config_class = import_architecture(
        text.model_type, text.architecture, attention.NAME, attention.attend
    )
    config = config_class.from_dict(text_config(json.loads((directory / "config.json").read_bytes())))
    _prepare_config(config, max_context_length or info.max_context_length)
    with parameters_on_meta():
        model = model_class(config).eval()
    keep_frequencies(model)
    _drop_unused_buffers(model)
    if info.vision is not None and info.vision.mrope_section is not None:
        decoder = getattr(model, model.base_model_prefix)
        decoder.rotary_emb = MultimodalRotary(decoder.rotary_emb, info.vision.mrope_section)
    return model


def load_weights(
    model: Any,
    directory: Path,
    info: ModelInfo,
    *,
    dtype: torch.dtype,
    device: torch.device,
    enable_patches: bool = True,
    operations: LayerOperations = PLAIN,
    keeps_fp8: bool = False,
    has_arena: bool | None = None,
    report: ReportFraction = lambda fraction: None,
    cuts: Mapping[str, Cut] = WHOLE,
) -> LoadedModel:
    """Make a skeleton ready to run. `enable_patches` False keeps transformers' own layers; `keeps_fp8`: where the
    device multiplies 8-bit floats, weights that are stored so stay so; `has_arena` as in `fill_skeleton`. `cuts`: what
    to read of some of the parameters, where the skeleton and `info` are a part of a model (`parallel/`)."""
    checkpoint = Checkpoint.of_model(directory, info)
    info = text_half(info)
    durations = fill_skeleton(
        model,
        checkpoint,
        info,
        dtype=dtype,
        device=device,
        keeps_fp8=keeps_fp8,
        has_arena=has_arena,
        report=report,
        cuts=cuts,
    )
    if device.type == "cpu":
        _read_embeddings_from_file(model, checkpoint, dtype)
    packing = make_ready(model, info, checkpoint.drop_pages, enable_patches=enable_patches, operations=operations)
    return LoadedModel(model, packing, durations)


def make_ready(
    model: Any,
    info: ModelInfo,
    release: Release,
    *,
    enable_patches: bool = True,
    operations: LayerOperations = PLAIN,
) -> Packing:
    """What comes after the weights, wherever those are from; `release` is told of each that is no longer read."""
    if info.attention.has_values_in_keys:
        absorb(model)
    if enable_patches:
        fuse(model, info.attention, release, operations)
        patch(model, release, operations)
        patch_experts(model, operations)
    return _make_packable(model, release)


def fill_skeleton(
    model: Any,
    checkpoint: Checkpoint,
    info: ModelInfo,
    *,
    dtype: torch.dtype,
    device: torch.device,
    keeps_fp8: bool = False,
    has_arena: bool | None = None,
    report: ReportFraction = lambda fraction: None,
    cuts: Mapping[str, Cut] = WHOLE,
) -> Durations | None:
    """Give every parameter its value: in one arena, or a view of the file where dtype and device allow, else a copy.

    `has_arena` None: everywhere but on a CPU, where a file is memory as good as any, and of parts of parameters.
    """
    durations = None
    if device.type != "cpu" and not cuts if has_arena is None else has_arena:
        durations = _fill_arena(model, checkpoint, info, dtype, device, keeps_fp8, report)
    else:
        _fill_one_by_one(model, checkpoint, info, dtype, device, keeps_fp8, report, cuts)
    model.to(device)  # buffers
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    return durations


def _fill_one_by_one(
    model: Any,
    checkpoint: Checkpoint,
    info: ModelInfo,
    dtype: torch.dtype,
    device: torch.device,
    keeps_fp8: bool,
    report: ReportFraction,
    cuts: Mapping[str, Cut],
) -> None:
    num_bytes_done = 0
    for name, stored, parameter in _stored_parameters(model, info):
        cut = cuts.get(name)
        if is_stacked(name):
            tensor = torch.empty(parameter.shape, dtype=dtype, device=device)
            read_stacked(checkpoint, name, info, tensor, cut)
        elif keeps_fp8 and stays_fp8(checkpoint, stored, info, parameter.shape):
            weight = read_fp8(checkpoint, stored, device, cut)
            _owner(model, name).register_buffer(SCALE, weight.scale)
            tensor = weight.stored
        else:
            tensor = read_weight(checkpoint, stored, info, dtype, device, cut)
        _set_parameter(model, name, tensor)
        num_bytes_done += tensor.nbytes
        report(min(1.0, num_bytes_done / info.weight_bytes))


def _fill_arena(
    model: Any,
    checkpoint: Checkpoint,
    info: ModelInfo,
    dtype: torch.dtype,
    device: torch.device,
    keeps_fp8: bool,
    report: ReportFraction,
) -> Durations:
    wanted: dict[str, Wanted] = {}
    for name, stored, parameter in _stored_parameters(model, info):
        sources, its_dtype = [stored], dtype
        if is_stacked(name):
            sources = [source for expert in stacked_names(name, info, len(parameter)) for source in expert]
        elif keeps_fp8 and stays_fp8(checkpoint, stored, info, parameter.shape):
            _owner(model, name).register_buffer(SCALE, read_scale(checkpoint, stored, device))
            its_dtype = FP8
        wanted[name] = Wanted(tuple(parameter.shape), its_dtype, tuple(sources))
    plan = plan_arena(wanted, checkpoint, _MERGED)
    arena = torch.empty(plan.size_bytes, dtype=torch.uint8, device=device)
    durations = transfer(plan.moves, arena, report)
    began = mark(device)
    for move in plan.moves:
        if move.source.dtype is FP8 and move.target.dtype is not FP8:
            rescale_in_place(checkpoint, move.name, info, move.target.view(arena))
    for name, extent in plan.extents.items():
        _set_parameter(model, name, extent.view(arena))
    ended = mark(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.accelerator.empty_host_cache()  # the ring's memory goes back to the system
    return durations._replace(convert=durations.convert + elapsed_ms(began, ended))


def _stored_parameters(model: Any, info: ModelInfo) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Name of each parameter, of the tensor that it is stored as unless it is stacked, and its shape's bearer."""
    tied = model._tied_weights_keys if info.tied_embeddings else {}
    for path, module in list(model.named_modules()):
        for name, parameter in list(module.named_parameters(path, recurse=False)):
            yield name, stored_name(tied.get(name, name), info.model_type), parameter


def _owner(model: Any, name: str) -> nn.Module:
    owner: nn.Module = model.get_submodule(name.rpartition(".")[0])
    return owner


def _set_parameter(model: Any, name: str, tensor: torch.Tensor) -> None:
    owner, attribute = _owner(model, name), name.rpartition(".")[2]
    assert tensor.shape == getattr(owner, attribute).shape, name
    setattr(owner, attribute, nn.Parameter(tensor, requires_grad=False))


def _prepare_config(config: Any, max_context_length: int) -> None:
    """A file may ask for what only training needs, or for ways of computing that depend on the batch."""
    config._attn_implementation = attention.NAME
    config._experts_implementation = "eager"
    config.output_attentions = config.output_hidden_states = config.output_router_logits = False
    config.return_dict = True
    config.pad_token_id = None
    choose_frequencies(config, max_context_length)


def _drop_unused_buffers(model: Any) -> None:
    """GPTBigCode builds a mask of context × context that only its own attention reads."""
    decoder = getattr(model, model.base_model_prefix)
    if type(decoder).__name__ == "GPTBigCodeModel":
        del decoder.bias


@contextmanager
def parameters_on_meta() -> Iterator[None]:
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
        if isinstance(module, nn.Embedding) and (stored := checkpoint.locate(f"{path}.weight")).dtype is dtype:
            # Gemma multiplies what it looks up.
            model.set_submodule(path, FileEmbedding(stored, getattr(module, "scalar_embed_scale", None)))


def _make_packable(model: Any, release: Release) -> Packing:
    for path, module in list(model.named_modules()):
        if type(module) is nn.Linear:
            model.set_submodule(path, make_linear([module], release))
    layers = [module for module in model.modules() if isinstance(module, Linear) and module.is_packable]
    if layers:
        # The head is the largest by far: packed after the rest has been read, it would add its size to the peak.
        model.lm_head.pack()
        layers.remove(model.lm_head)
    return Packing([*layers, *experts_to_pack(model)])
