"""A real engine over a tiny real model, with a KV pool of any size, driven without threads or sockets."""

from pathlib import Path
from typing import Any

import torch

from models.info import ModelInfo
from models.inspection import inspect_model
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.engine import LlmEngine
from runtime.llm.loader import build_skeleton, load_weights
from runtime.llm.model_runner import ModelRunner
from runtime.llm.request import Generation, Request, TokenOutput
from runtime.protocol import SamplingParams

BLOCK_SIZE = 8
GREEDY = SamplingParams(temperature=0)


class TinyModel:
    """A checkpoint of `tiny_llm.py`, loaded once in float32; engines over it are cheap."""

    def __init__(self, directory: Path, *, is_fused: bool = True) -> None:
        self.info: ModelInfo = inspect_model(directory)
        self.model, self.packing = load_weights(
            build_skeleton(directory, self.info),
            directory,
            self.info,
            dtype=torch.float32,
            device=torch.device("cpu"),
            is_fused=is_fused,
        )

    def runner(self, num_blocks: int = 200) -> ModelRunner:
        attention = GatherAttention(
            self.info.attention,
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            dtype=torch.float32,
            device=torch.device("cpu"),
        )
        return ModelRunner(self.model, attention, self.packing)

    def engine(
        self, *, num_blocks: int = 200, max_batch_tokens: int = 64, enable_prefix_cache: bool = True
    ) -> LlmEngine:
        return LlmEngine(
            self.runner(num_blocks),
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            max_num_requests=16,
            max_num_waiting=100,
            max_batch_tokens=max_batch_tokens,
            enable_prefix_cache=enable_prefix_cache,
            cache_root=b"tiny",
        )


def make_request(
    prompt_token_ids: list[int],
    *,
    request_id: str = "r",
    max_tokens: int = 12,
    sampling: SamplingParams = GREEDY,
    seed: int = 0,
    num_logprobs: int | None = None,
) -> Request:
    return Request(
        request_id=request_id,
        prompt_token_ids=prompt_token_ids,
        sampling=sampling,
        seed=seed,
        max_tokens=max_tokens,
        num_logprobs=num_logprobs,
    )


def run(engine: LlmEngine, requests: list[Request], *, steps_between: int = 0) -> list[list[TokenOutput]]:
    """Every request to its end, one joining each `steps_between` steps; bookkeeping is checked after every step."""
    outputs: dict[str, list[TokenOutput]] = {request.request_id: [] for request in requests}
    assert len(outputs) == len(requests), "request ids are distinct"
    arriving: list[Any] = list(requests)
    num_steps = 0
    while arriving or engine.has_work():
        while arriving and num_steps >= steps_between * (len(requests) - len(arriving)):
            request = arriving.pop(0)
            engine.add(Generation(request.request_id, [request]))
        for output in engine.step():
            assert isinstance(output, TokenOutput), output
            outputs[output.request_id].append(output)
        engine.check_integrity()
        num_steps += 1
    return list(outputs.values())


def token_ids(outputs: list[list[TokenOutput]]) -> list[list[int]]:
    return [[output.token_id for output in own] for own in outputs]
