"""From a `Load` message to an image engine that can serve: the wiring of this package, in order.

Owns every reason why a model is not taken up on this device. After it returns the model has made a picture, and its
footprint was measured.
"""

import random
from pathlib import Path
from typing import Any

import torch

from models.diffusion_folder import inspect_diffusion
from models.fixed_sizing import fixed_replica_bytes, step_bytes
from models.info import DiffusionInfo
from models.sizing import CUDA_PROCESS_BYTES
from runtime.adapter_shelf import AdapterShelf, no_adapters
from runtime.device_memory import DeviceMemory
from runtime.diffusion.adapters import Adaptation, BaseModel, LoraAdapter, read_adapter
from runtime.diffusion.engine import DiffusionEngine, Painter
from runtime.diffusion.flux import FluxPainter
from runtime.diffusion.frontend import DiffusionFrontend
from runtime.diffusion.limits import EDGE_MIN
from runtime.diffusion.parts import Parts, load_parts
from runtime.diffusion.request import DrawRequest
from runtime.diffusion.sdxl import SdxlPainter
from runtime.engine import LoadedEngine, LoadRefused, ReportProgress
from runtime.imported_files import inspect_imported
from runtime.memory import footprint_bytes
from runtime.message import FailureCode
from runtime.protocol import Load, LoadAdapter, Loaded
from runtime.settings import DiffusionSettings
from runtime.stages import Stages
from runtime.torch_device import find_device


def load_diffusion(load: Load, report: ReportProgress) -> LoadedEngine:
    """Raises LoadRefused when this model cannot be served here with these settings."""
    settings, directory = load.settings, Path(load.model_dir)
    assert isinstance(settings, DiffusionSettings), "load_engine chose by them"
    stages = Stages(report)
    device = find_device(settings.device, settings.dtype)
    _limit_memory(device, settings)
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)

    stages.begin("inspection", 0.0)
    info = inspect_imported(inspect_diffusion, directory, load.file_sha256)
    _check_memory(info, settings)

    stages.begin("weights", 0.05)
    try:
        parts = load_parts(
            directory, info, dtype=getattr(torch, settings.dtype), device=device, report=stages.within(0.05, 0.9)
        )
    except (MemoryError, torch.OutOfMemoryError) as error:
        message = f"the device ran out of memory while {info.weight_bytes} bytes of weights were loaded"
        raise LoadRefused(message, FailureCode.OVERLOADED) from error

    stages.begin("warm-up", 0.9)
    adaptation = Adaptation()
    painter = make_painter(parts, info, adaptation, device)
    _warm_up(painter, info, settings)
    footprint = footprint_bytes(device, step_bytes(info, settings.dtype, settings.max_batch_size))

    batch_pixels = settings.max_batch_size * info.default_size**2
    engine = DiffusionEngine(
        painter,
        max_batch_size=settings.max_batch_size,
        max_batch_pixels=batch_pixels,
        max_num_waiting=settings.max_num_waiting,
        memory=DeviceMemory(device),
    )
    frontend = DiffusionFrontend(
        info,
        # More than the memory of a step was reckoned for would not fit.
        min(settings.max_pixels, batch_pixels),
        parts.schedulers,
        _shelf(parts, settings, device),
        has_safety=parts.safety is not None,
    )
    return LoadedEngine(engine, frontend, Loaded(footprint_bytes=footprint, load_ms=stages.finish()))


def make_painter(
    parts: Parts, info: DiffusionInfo, adaptation: Adaptation, device: torch.device, *, is_exact: bool | None = None
) -> Painter:
    """`is_exact` None: where it costs nothing."""
    kind = SdxlPainter if info.pipeline == "sdxl" else FluxPainter
    return kind(parts, adaptation, device, is_exact=device.type == "cpu" if is_exact is None else is_exact)


def _limit_memory(device: torch.device, settings: DiffusionSettings) -> None:
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = (settings.memory_budget_bytes - CUDA_PROCESS_BYTES) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, share)), device)


def _check_memory(info: DiffusionInfo, settings: DiffusionSettings) -> None:
    needed = fixed_replica_bytes(
        info, settings.dtype, batch_size=settings.max_batch_size, is_cuda=settings.device != "cpu"
    )
    if needed > settings.memory_budget_bytes:
        message = f"{needed} bytes are needed for {settings.max_batch_size} pictures at a time, of a budget of"
        raise LoadRefused(f"{message} {settings.memory_budget_bytes}", FailureCode.OVERLOADED)


def _warm_up(painter: Painter, info: DiffusionInfo, settings: DiffusionSettings) -> None:
    """On a GPU as much as a step will ever hold, which is then measured; on a CPU one small picture."""
    is_cuda = settings.device != "cpu"
    edge = info.default_size if is_cuda else min(info.default_size, 2 * EDGE_MIN)
    request = DrawRequest(
        request_id="warm-up",
        tenant="",
        prompt="a fire",
        negative_prompt="",
        width=edge,
        height=edge,
        num_steps=2,
        guidance_scale=2.0,
        seeds=[random.getrandbits(32) for _ in range(settings.max_batch_size if is_cuda else 1)],
    )
    paintings: list[Any] = [painter.begin(request, seed) for seed in request.seeds]
    for painting, prediction in zip(paintings, painter.predict(paintings), strict=True):
        painter.advance(painting, prediction)
    painter.finish(paintings[0])
    painter.release()


def _shelf(parts: Parts, settings: DiffusionSettings, device: torch.device) -> AdapterShelf:
    if not settings.max_num_adapters:
        return no_adapters()
    base = BaseModel(
        {name: model for name, model in parts.models.items() if name != "vae"},
        getattr(torch, settings.dtype),
        device,
    )

    def read(load: LoadAdapter) -> LoraAdapter:
        return read_adapter(Path(load.directory), load.file_sha256, base)

    return AdapterShelf(read, settings.max_num_adapters)
