"""A tiny model whose layers attend by a back end that no CPU would be given, and what such models say."""

from collections.abc import Callable
from pathlib import Path

import torch

from runtime.llm.attention_gather import GatherAttention
from runtime.llm.kernel_choice import NO_KERNELS, Kernels
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import VOCAB_SIZE


class AttendedModel(TinyModel):
    def __init__(self, directory: Path, backend: Callable[..., GatherAttention], kernels: Kernels = NO_KERNELS) -> None:
        super().__init__(directory, kernels=kernels)
        self._backend = backend

    def attention(self, num_blocks: int = 200) -> GatherAttention:
        gathering = super().attention(num_blocks)
        return self._backend(
            gathering.shape,
            num_blocks=num_blocks,
            block_size=gathering.block_size,
            dtype=gathering.dtype,
            device=gathering.device,
        )


def what_it_says(model: TinyModel, *prompt_lengths: int) -> list[list[int]]:
    """The tokens behind prompts that come one step after another."""
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in prompt_lengths]
    requests = [make_request(prompt, request_id=str(i), max_tokens=4) for i, prompt in enumerate(prompts)]
    return token_ids(run(model.engine(), requests, steps_between=1))
