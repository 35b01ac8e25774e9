"""From a `Load` message to a language-model engine that can serve: the wiring of this package, in order.

Owns every reason why a model is not taken up on this device. After it returns nothing is left to be found out: the
model has computed a token, and its footprint was measured, not estimated.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.division import find_indivisible
from models.info import ModelInfo
from models.llm_folder import inspect_llm
from models.sizing import num_kv_blocks
from runtime.device_memory import DeviceMemory, Pool
from runtime.engine import LoadedEngine, LoadRefused, Memory, ReportProgress
from runtime.imported_files import inspect_imported
from runtime.llm.adapters.load import AdapterSupport, support_adapters
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.cuda_graphs import choose_graphs
from runtime.llm.engine import LlmEngine
from runtime.llm.fp8 import can_multiply, has_fp8
from runtime.llm.frontend import LlmFrontend
from runtime.llm.graphs import StepGraphs
from runtime.llm.kernel_choice import Kernels, choose_kernels
from runtime.llm.latents import choose_latents
from runtime.llm.linear import Packing
from runtime.llm.loader import build_skeleton
from runtime.llm.model_runner import ModelRunner
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.leader import Ranks, SharedMemory
from runtime.llm.parallel.part import load_part
from runtime.llm.prompts import start_renderer
from runtime.llm.speculation.load_draft import LoadedDraft, check_fit, load_draft
from runtime.llm.vision.features import ImageFeatures
from runtime.llm.vision.inputs import VisionInputs
from runtime.llm.vision.load import load_vision
from runtime.llm.vision.runner import VisionRunner
from runtime.memory import footprint_bytes
from runtime.message import FailureCode
from runtime.protocol import Load, Loaded
from runtime.settings import LlmSettings
from runtime.stages import Stages
from runtime.torch_device import find_device, open_device


def load_llm(load: Load, report: ReportProgress) -> LoadedEngine:
    """Raises LoadRefused when this model cannot be served here with these settings."""
    settings, directory = load.settings, Path(load.model_dir)
    assert isinstance(settings, LlmSettings), "load_engine chose by them"
    stages = Stages(report)
    stages.begin("device", 0.0)
    device = _open_device(settings)

    stages.begin("inspection", 0.0)
    info = inspect_imported(inspect_llm, directory, load.file_sha256)
    info = choose_latents(info, are_wanted=settings.keeps_latents and not settings.max_num_adapters)
    draft_info = _inspect_draft(directory, settings)
    _check_products(info, draft_info, settings, device)
    _check_kv_cache(settings, device)
    num_blocks = _num_blocks(info, draft_info, settings)
    ranks = _start_ranks(info, settings)
    renderer = start_renderer(directory, info)  # a process of its own, which begins while this one loads

    stages.begin("architecture", 0.05)
    model = build_skeleton(directory, info, settings.max_context_length)

    stages.begin("weights", 0.2)
    kernels = choose_kernels(device, getattr(torch, settings.dtype), are_enabled=settings.enable_kernels)
    held = _fill(model, directory, settings, info, draft_info, num_blocks, kernels, ranks, stages)

    stages.begin("warm-up", 0.9)
    runner = held.runner(kernels)
    runner.warm_up()
    footprint = held.footprint_bytes(device)

    stages.begin("tokenizer", 0.95)
    engine = LlmEngine(
        runner if held.features is None else VisionRunner(runner, held.features),
        num_blocks=num_blocks,
        block_size=settings.block_size,
        max_num_requests=settings.max_num_requests,
        max_num_waiting=settings.max_num_waiting,
        max_num_waiting_tokens=settings.max_num_waiting_tokens,
        max_batch_tokens=settings.max_batch_tokens,
        enable_prefix_cache=settings.enable_prefix_cache,
        cache_root=_cache_root(info, settings),
        speculation=settings.speculation,
        draft_model=None if held.draft is None else held.draft.model,
        look_ahead=_looks_ahead(settings, device),
        memory=held.memory(device),
        rest=runner.rest,
    )
    capacity = (num_blocks - 1) * settings.block_size
    max_context_length = min(settings.max_context_length, capacity)
    frontend = LlmFrontend(directory, info, settings.max_context_length, capacity, held.adapters.shelf, renderer)
    loaded_message = Loaded(
        footprint_bytes=footprint,
        num_blocks=num_blocks,
        block_size=settings.block_size,
        max_context_length=max_context_length,
        kv_bytes=held.kv_bytes,
        load_ms=stages.finish(),
    )
    return LoadedEngine(engine, frontend, loaded_message)


def _open_device(settings: LlmSettings) -> torch.device:
    device = find_device(settings.device, settings.dtype)
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    open_device(device)
    return device


class _Held(NamedTuple):
    """What a load has put on the device."""

    model: Any
    packing: Packing
    attention: GatherAttention
    vision: VisionInputs | None
    draft: LoadedDraft | None
    adapters: AdapterSupport
    graphs: StepGraphs | None
    ranks: Ranks | None

    def runner(self, kernels: Kernels) -> ModelRunner:
        adaptation = self.adapters.adaptation
        return ModelRunner(
            self.model, self.attention, self.packing, self.vision, adaptation, kernels.sampling, self.graphs, self.ranks
        )

    @property
    def features(self) -> ImageFeatures | None:
        return None if self.vision is None else self.vision.features

    @property
    def attentions(self) -> list[GatherAttention]:
        return [self.attention] if self.draft is None else [self.attention, self.draft.attention]

    @property
    def pools(self) -> list[Pool]:
        # Graphs read KV memory where it was: they are let go before it.
        return [*([] if self.graphs is None else [self.graphs]), *self.attentions]

    @property
    def kv_bytes(self) -> int:
        return sum(attention.size_bytes for attention in self.attentions)

    def footprint_bytes(self, device: torch.device) -> int:
        """Of several devices, on the one that holds most."""
        own = footprint_bytes(device, self.kv_bytes) + self.adapters.num_bytes  # on no device are they taken yet
        return own if self.ranks is None else max(own, self.ranks.most_held())

    def memory(self, device: torch.device) -> Memory:
        own = DeviceMemory(device, self.pools, self.features)
        return own if self.ranks is None else SharedMemory(own, self.ranks)


def _fill(
    model: Any,
    directory: Path,
    settings: LlmSettings,
    info: ModelInfo,
    draft_info: ModelInfo | None,
    num_blocks: int,
    kernels: Kernels,
    ranks: Ranks | None,
    stages: Stages,
) -> _Held:
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    try:
        if ranks is not None:
            ranks.load(directory, info, settings, num_blocks)
        share = Share(0, settings.num_devices)
        part = load_part(model, directory, info, settings, share, kernels, stages.within(0.2, 0.9))
        if part.durations is not None:
            stages.note_parts(part.durations._asdict())
        vision = load_vision(part.model, directory, info, dtype=dtype, device=device)
        draft = None if draft_info is None else load_draft(draft_info, info, settings, num_blocks, kernels.layer)
        adapters = support_adapters(part.model, directory, info, settings, kernels.lora)
        stages.begin("kv-cache", 0.9)
        attention = part.reserve_attention(settings, num_blocks)
        graphs = None if ranks is not None else choose_graphs(part.model, attention, info, settings)
        if ranks is not None:
            ranks.finish_load(device)
    except (MemoryError, torch.OutOfMemoryError) as error:
        message = f"the device ran out of memory while {info.weight_bytes} bytes of weights were loaded"
        raise LoadRefused(message, FailureCode.OVERLOADED) from error
    return _Held(part.model, part.packing, attention, vision, draft, adapters, graphs, ranks)


def _start_ranks(info: ModelInfo, settings: LlmSettings) -> Ranks | None:
    """They import their libraries while this process goes on."""
    if settings.num_devices == 1:
        return None
    if obstacle := find_indivisible(info, settings.num_devices):
        raise LoadRefused(f"this model cannot be divided: {obstacle}")
    if settings.max_num_adapters:
        raise LoadRefused("addons are not served over several devices")
    return Ranks(settings.num_devices)


def _looks_ahead(settings: LlmSettings, device: torch.device) -> bool:
    """Over several devices the others must be told what to compute, and only the host's tokens can be told."""
    if settings.num_devices > 1:
        return False
    return device.type == "cuda" if settings.look_ahead is None else settings.look_ahead


def _inspect_draft(target_dir: Path, settings: LlmSettings) -> ModelInfo | None:
    draft_model = settings.speculation.draft_model
    if draft_model is None:
        return None
    directory = Path(draft_model.model_dir)
    draft = inspect_imported(inspect_llm, directory, draft_model.file_sha256)
    check_fit(target_dir, directory, draft, settings.max_context_length)
    return choose_latents(draft, are_wanted=settings.keeps_latents)


def _check_products(info: ModelInfo, draft: ModelInfo | None, settings: LlmSettings, device: torch.device) -> None:
    """Converted weights would take memory that was not planned for."""
    is_quantised = any(model is not None and model.fp8 is not None for model in (info, draft))
    if settings.keeps_fp8 and is_quantised and not can_multiply(device, getattr(torch, settings.dtype)):
        raise LoadRefused("this device does not multiply 8-bit floats as expected; deploy with another precision")


def _check_kv_cache(settings: LlmSettings, device: torch.device) -> None:
    if settings.kv_cache_dtype == "fp8" and not has_fp8(device):
        needed = "an NVIDIA GPU of compute capability 8.9 or later"
        raise LoadRefused(f"a KV cache of 8-bit floats (kv_cache_dtype fp8) takes {needed}")


def _cache_root(info: ModelInfo, settings: LlmSettings) -> bytes:
    """Different wherever KV of equal tokens differs."""
    stored_as = settings.dtype, settings.kv_cache_dtype, info.attention.has_values_in_keys
    return repr((sorted(info.file_sha256.items()), *stored_as)).encode()


def _num_blocks(info: ModelInfo, draft: ModelInfo | None, settings: LlmSettings) -> int:
    """Blocks of the pool, the trash block among them."""
    if settings.max_context_length > info.max_context_length:
        raise LoadRefused(f"the model's context ends at {info.max_context_length} tokens")
    fitting = num_kv_blocks(
        info,
        settings.dtype,
        memory_budget_bytes=settings.memory_budget_bytes,
        block_size=settings.block_size,
        max_batch_tokens=settings.max_batch_tokens,
        max_num_requests=settings.max_num_requests,
        is_cuda=settings.device != "cpu",
        draft=draft,
        num_adapters=settings.max_num_adapters,
        max_adapter_rank=settings.max_adapter_rank,
        known_fixed_bytes=settings.fixed_bytes,
        keeps_fp8=settings.keeps_fp8,
        is_kv_fp8=settings.kv_cache_dtype == "fp8",
        has_graphs=settings.enable_graphs and settings.num_devices == 1,
        num_devices=settings.num_devices,
    )
    if fitting < 1:
        message = f"{settings.memory_budget_bytes} bytes hold the model but not one block of KV cache, or not the model"
        raise LoadRefused(message, FailureCode.OVERLOADED)
    # More than every request at full length could not be used.
    usable = settings.max_num_requests * -(-settings.max_context_length // settings.block_size)
    return min(fitting, usable) + 1
