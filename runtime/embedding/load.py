"""From a `Load` message to an embedding engine that can serve: the wiring of this package, in order.

Owns every reason why a model is not taken up on this device. After it returns nothing is left to be found out: the
model has computed a text of every length that matters, and its footprint was measured.
"""

from pathlib import Path

import torch

from models.embedding_folder import inspect_embedding
from models.fixed_sizing import fixed_replica_bytes
from models.info import EmbeddingInfo
from runtime.device_memory import DeviceMemory
from runtime.embedding.encoders import Encoder, build_encoder, fill_encoder
from runtime.embedding.engine import EmbeddingEngine
from runtime.embedding.frontend import EmbeddingFrontend
from runtime.embedding.request import EmbeddingRequest, Row, Text
from runtime.embedding.runner import DenseLayer, EmbeddingRunner, TokenHead
from runtime.embedding.scoring import make_pairs
from runtime.embedding.texts import Texts
from runtime.engine import LoadedEngine, LoadRefused, ReportProgress
from runtime.imported_files import inspect_imported
from runtime.llm.checkpoint import Checkpoint
from runtime.memory import footprint_bytes
from runtime.message import FailureCode
from runtime.protocol import Load, Loaded
from runtime.settings import EmbeddingSettings
from runtime.stages import Stages
from runtime.torch_device import find_device

_PACKED_AT_ONCE_BYTES = 256 * 1024 * 1024
"""Models up to this size are packed as they are loaded, which takes a quarter of a second; others in pauses."""


def load_embedding(load: Load, report: ReportProgress) -> LoadedEngine:
    """Raises LoadRefused when this model cannot be served here with these settings."""
    settings, directory = load.settings, Path(load.model_dir)
    assert isinstance(settings, EmbeddingSettings), "load_engine chose by them"
    stages = Stages(report)
    device = find_device(settings.device, settings.dtype)
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)

    stages.begin("inspection", 0.0)
    info = inspect_imported(inspect_embedding, directory, load.file_sha256, may_list_more=True)
    _check_fit(info, settings)

    stages.begin("architecture", 0.05)
    encoder = _build(directory, info, settings)

    stages.begin("weights", 0.2)
    runner = _fill(encoder, directory, info, settings, device, stages)

    stages.begin("warm-up", 0.9)
    _warm_up(runner, info, settings.max_context_length)
    footprint = footprint_bytes(device, 0)

    stages.begin("tokenizer", 0.95)
    texts = Texts(directory, info, settings.max_context_length)
    pairs = make_pairs(directory, info, texts)
    engine = EmbeddingEngine(
        runner,
        DeviceMemory(device),
        max_batch_tokens=settings.max_batch_tokens,
        max_num_waiting=settings.max_num_waiting,
        max_num_waiting_tokens=settings.max_num_waiting_tokens,
    )
    frontend = EmbeddingFrontend(info, texts, pairs, has_head=info.has_head)
    loaded = Loaded(footprint_bytes=footprint, max_context_length=settings.max_context_length, load_ms=stages.finish())
    return LoadedEngine(engine, frontend, loaded)


def _check_fit(info: EmbeddingInfo, settings: EmbeddingSettings) -> None:
    if settings.max_context_length > info.max_context_length:
        raise LoadRefused(f"the model's context ends at {info.max_context_length} tokens")
    needed = fixed_replica_bytes(
        info,
        settings.dtype,
        batch_size=max(settings.max_batch_tokens, settings.max_context_length),
        is_cuda=settings.device != "cpu",
    )
    if needed > settings.memory_budget_bytes:
        message = f"{settings.memory_budget_bytes} bytes do not hold the model and a step of it, which take {needed}"
        raise LoadRefused(message, FailureCode.OVERLOADED)


def _build(directory: Path, info: EmbeddingInfo, settings: EmbeddingSettings) -> Encoder:
    try:
        encoder = build_encoder(directory, info, settings.max_context_length)
    except ImportError as error:
        raise LoadRefused(f"{info.architecture} is not in the installed version of transformers") from error
    num_positions = encoder.num_positions
    if num_positions is not None and num_positions < settings.max_context_length:
        raise LoadRefused(f"the model has {num_positions} positions, fewer than {settings.max_context_length}")
    return encoder


def _fill(
    encoder: Encoder,
    directory: Path,
    info: EmbeddingInfo,
    settings: EmbeddingSettings,
    device: torch.device,
    stages: Stages,
) -> EmbeddingRunner:
    names = [name for name in info.file_sha256 if name.endswith(".safetensors")]
    try:
        checkpoint = Checkpoint(directory, [name for name in names if "/" not in name])
        packing = fill_encoder(
            encoder,
            checkpoint,
            info,
            dtype=getattr(torch, settings.dtype),
            device=device,
            report=stages.within(0.2, 0.9),
        )
        dense = [
            DenseLayer(
                Checkpoint(directory, [name for name in names if name.startswith(f"{own.folder}/")]), own, device
            )
            for own in info.dense
        ]
    except (MemoryError, torch.OutOfMemoryError) as error:
        message = f"the device ran out of memory while {info.weight_bytes} bytes of weights were loaded"
        raise LoadRefused(message, FailureCode.OVERLOADED) from error
    head = _head(encoder, checkpoint, device) if info.has_head else None
    runner = EmbeddingRunner(encoder, info, device, dense=dense, head=head, packing=packing)
    if info.weight_bytes <= _PACKED_AT_ONCE_BYTES:
        runner.pack()
    return runner


def _head(encoder: Encoder, checkpoint: Checkpoint, device: torch.device) -> TokenHead:
    """Of its own, or the one that is the embedding turned round."""
    name = "lm_head.weight" if "lm_head.weight" in checkpoint.names else "embed_tokens.weight"
    stored = next(known for known in checkpoint.names if known in {name, f"model.{name}"})
    return TokenHead(checkpoint.tensor(stored), device, getattr(encoder.base.config, "final_logit_softcapping", None))


def _warm_up(runner: EmbeddingRunner, info: EmbeddingInfo, max_context_length: int) -> None:
    """Texts alone and of several lengths, so that the first caller waits for nothing but its own."""
    lengths = [[max_context_length // 2 or 1], [max_context_length, 1], [1, 1]]
    for own in lengths:
        texts = [Text([1] * min(length, 512)) for length in own]
        request = EmbeddingRequest("warm-up", "", texts, (0,) if info.pooling == "none" and info.has_head else ())
        runner.execute([Row(request, index) for index in range(len(texts))])
