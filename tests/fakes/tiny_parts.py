"""A tiny model divided between this process and one that follows it, or whole in this one: the same two steps of it."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.info import ModelInfo
from models.llm_folder import inspect_llm
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.kernel_choice import NO_KERNELS
from runtime.llm.loader import build_skeleton
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.leader import Ranks
from runtime.llm.parallel.part import Part, load_part
from runtime.settings import LlmSettings

CPU = torch.device("cpu")
NUM_BLOCKS = 20
BLOCK_SIZE = 8
LONG, SHORT = list(range(3, 40)), [7, 11, 5]


class TinyPart(NamedTuple):
    info: ModelInfo
    part: Part
    attention: GatherAttention
    forward: Forward

    def logits(self) -> torch.Tensor:
        """Of a prompt and a part of another, and of the next tokens of both."""
        first = [TokenRow(LONG[:20], 0, [1, 2, 3, 4, 5]), TokenRow(SHORT, 0, [6])]
        second = [TokenRow(LONG[20:], 20, [1, 2, 3, 4, 5]), TokenRow([9], 3, [6])]
        steps = [(first, [0, 19, 22]), (second, [0, 16, 17])]
        return torch.cat([self.forward.compute(rows).logits(positions) for rows, positions in steps])


def settings_of(**changes: Any) -> LlmSettings:
    defaults: dict[str, Any] = {
        "device": "cpu",
        "dtype": "float32",
        "memory_budget_bytes": 2**30,
        "max_context_length": 128,
        "block_size": BLOCK_SIZE,
        "num_threads": 1,
    }
    return LlmSettings(**defaults | changes)


def load_tiny(directory: Path, ranks: Ranks | None = None, **changes: Any) -> TinyPart:
    info = inspect_llm(directory)
    share = Share() if ranks is None else ranks.share
    settings = settings_of(num_devices=share.size, **changes)
    if ranks is not None:
        ranks.load(directory, info, settings, NUM_BLOCKS)
    skeleton = build_skeleton(directory, info, settings.max_context_length)
    part = load_part(skeleton, directory, info, settings, share, NO_KERNELS)
    attention = part.reserve_attention(settings, NUM_BLOCKS)
    if ranks is not None:
        ranks.finish_load(CPU)
    return TinyPart(info, part, attention, Forward(part.model, attention, followers=ranks))
