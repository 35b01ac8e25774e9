"""One process's part of a model on its device: what every rank does alike, and a process alone with the whole of it."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.info import ModelInfo
from runtime.llm.attention_choice import choose_attention
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.kernel_choice import Kernels
from runtime.llm.linear import Packing
from runtime.llm.loader import ReportFraction, load_weights
from runtime.llm.parallel.collectives import connect
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.division import divide, divided
from runtime.llm.weight_transfer import Durations
from runtime.settings import LlmSettings


class Part(NamedTuple):
    model: Any
    packing: Packing
    durations: Durations | None
    info: ModelInfo
    """Of the part."""

    def reserve_attention(self, settings: LlmSettings, num_blocks: int) -> GatherAttention:
        """Its memory is reserved, and not touched yet."""
        return choose_attention(
            self.info.attention,
            num_blocks=num_blocks,
            block_size=settings.block_size,
            dtype=getattr(torch, settings.dtype),
            device=torch.device(settings.device),
            backend=settings.attention,
            is_fp8=settings.kv_cache_dtype == "fp8",
        )


def load_part(
    skeleton: Any,
    directory: Path,
    info: ModelInfo,
    settings: LlmSettings,
    share: Share,
    kernels: Kernels,
    report: ReportFraction = lambda fraction: None,
) -> Part:
    """`info` is the whole model's, and so is the skeleton, which becomes the part. Raises UnknownDivision."""
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    division = divide(skeleton, info.attention, share)
    own = divided(info, share)
    loaded = load_weights(
        skeleton,
        directory,
        own,
        dtype=dtype,
        device=device,
        enable_patches=settings.enable_patches,
        operations=kernels.layer,
        keeps_fp8=settings.keeps_fp8,
        report=report,
        cuts=division.cuts,
    )
    connect(loaded.model, division)
    return Part(loaded.model, loaded.packing, loaded.durations, own)
