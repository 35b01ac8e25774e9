"""A real engine over a tiny real model, with a KV pool of any size, driven without threads or sockets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.addon_config import RANK_MAX
from models.addons import adaptable_layers, inspect_addon
from models.info import ModelInfo
from models.llm_folder import inspect_llm
from runtime.device_memory import DeviceMemory
from runtime.llm.adapters.adaptation import Adaptation, PlainAdaptation
from runtime.llm.adapters.adapter import LoraAdapter
from runtime.llm.adapters.places import find_places
from runtime.llm.adapters.reading import BaseModel, read_adapter
from runtime.llm.adapters.stacked_adaptation import StackedAdaptation
from runtime.llm.adapters.stacks import AdapterStacks, SlottedAdapter
from runtime.llm.attention_choice import choose_attention
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.engine import NO_SPECULATION, LlmEngine
from runtime.llm.forward import TokenRow
from runtime.llm.forward_context import use_attention
from runtime.llm.kernel_choice import NO_KERNELS, Kernels
from runtime.llm.latents import choose_latents
from runtime.llm.loader import build_skeleton, load_weights
from runtime.llm.model_runner import ModelRunner
from runtime.llm.request import Adapter, Generation, Request, TokenOutput
from runtime.llm.speculation.draft_model import TorchDraftModel
from runtime.llm.vision.load import load_vision
from runtime.llm.vision.runner import VisionRunner
from runtime.settings import Speculation
from runtime.submission import SamplingParams

BLOCK_SIZE = 8
NUM_SLOTS, SLOT_RANK_MAX = 4, 8
"""For adapters, with kernels."""
GREEDY = SamplingParams(temperature=0)


class TinyModel:
    """A checkpoint of `tiny_llm.py`, loaded once; engines over it are cheap."""

    def __init__(
        self,
        directory: Path,
        *,
        enable_patches: bool = True,
        max_context_length: int | None = None,
        dtype: torch.dtype = torch.float32,
        kernels: Kernels = NO_KERNELS,
        keeps_fp8: bool = False,
        keeps_latents: bool = False,
        is_kv_fp8: bool = False,
    ) -> None:
        self.dtype = dtype
        self._is_kv_fp8 = is_kv_fp8
        self._are_kernels_chosen = kernels is not NO_KERNELS
        self._sampling_kernels = kernels.sampling
        self.info: ModelInfo = choose_latents(inspect_llm(directory), are_wanted=keeps_latents)
        self.model, self.packing, _ = load_weights(
            build_skeleton(directory, self.info, max_context_length),
            directory,
            self.info,
            dtype=dtype,
            device=torch.device("cpu"),
            enable_patches=enable_patches,
            operations=kernels.layer,
            keeps_fp8=keeps_fp8,
        )
        shapes = adaptable_layers(directory)
        places = {} if keeps_latents else find_places(self.model, shapes)
        self._base = BaseModel(directory, self.info, places, dtype, torch.device("cpu"))
        self._stacks: AdapterStacks | None = None
        self.adaptation: Adaptation = PlainAdaptation([place.linear for place in places.values()], torch.device("cpu"))
        if kernels.lora is not None:
            self._stacks = AdapterStacks(
                places, shapes, num_slots=NUM_SLOTS, rank_max=SLOT_RANK_MAX, dtype=dtype, device=torch.device("cpu")
            )
            self.adaptation = StackedAdaptation(
                self._stacks, kernels.lora, max_batch_tokens=64, device=torch.device("cpu")
            )
        self.vision = load_vision(self.model, directory, self.info, dtype=torch.float32, device=torch.device("cpu"))

    def attention(self, num_blocks: int = 200) -> GatherAttention:
        return choose_attention(
            self.info.attention,
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            dtype=self.dtype,
            device=torch.device("cpu"),
            backend="auto" if self._are_kernels_chosen else "gather",
            is_fp8=self._is_kv_fp8,
        )

    def runner(self, num_blocks: int = 200) -> ModelRunner:
        return self._runner_with(self.attention(num_blocks))

    def adapter(self, directory: Path) -> LoraAdapter:
        """An addon to this model."""
        known = inspect_addon(directory, self._base.directory, self.info).file_sha256
        return read_adapter(directory, known, self._base, rank_max=RANK_MAX)

    def placed(self, directory: Path) -> SlottedAdapter | LoraAdapter:
        """One that this model's kernels find, where it has kernels."""
        adapter = self.adapter(directory)
        return adapter if self._stacks is None else self._stacks.place(adapter)

    def logits(self, token_ids: list[int], spans: list[Span], adapter: Adapter | None = None) -> torch.Tensor:
        """Of every token of one step in which nothing was computed before."""
        rows = [TokenRow(token_ids, 0, [], adapter=adapter)]
        positions = [position for span in spans for position in range(span.num_tokens)]
        attention = use_attention(self.attention().prepare(spans))
        with torch.inference_mode(), attention, self.adaptation.applied(rows):
            logits: torch.Tensor = self.model(
                input_ids=torch.tensor([token_ids]), position_ids=torch.tensor([positions]), use_cache=False
            ).logits[0]
        return logits

    def _runner_with(self, attention: GatherAttention) -> ModelRunner:
        return ModelRunner(self.model, attention, self.packing, self.vision, self.adaptation, self._sampling_kernels)

    def draft_model(self, num_blocks: int = 200) -> TorchDraftModel:
        """This model as the draft model of an engine that has as many blocks."""
        return TorchDraftModel(
            self.model,
            self.attention(num_blocks),
            self.packing,
            vocab_size=self.info.vocab_size,
            relative_cost=0.1,
        )

    def engine(
        self,
        *,
        num_blocks: int = 200,
        max_batch_tokens: int = 64,
        enable_prefix_cache: bool = True,
        speculation: Speculation = NO_SPECULATION,
        draft_model: TorchDraftModel | None = None,
        look_ahead: bool = False,
    ) -> LlmEngine:
        attention = self.attention(num_blocks)
        runner = self._runner_with(attention)
        features = None if self.vision is None else self.vision.features
        return LlmEngine(
            runner if self.vision is None else VisionRunner(runner, self.vision.features),
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            max_num_requests=16,
            max_num_waiting=200,
            max_num_waiting_tokens=10_000,
            max_batch_tokens=max_batch_tokens,
            enable_prefix_cache=enable_prefix_cache,
            cache_root=b"tiny",
            speculation=speculation,
            draft_model=draft_model,
            look_ahead=look_ahead,
            memory=DeviceMemory(torch.device("cpu"), [attention], features),
        )


def make_request(
    prompt_token_ids: list[int],
    *,
    request_id: str = "r",
    max_tokens: int = 12,
    sampling: SamplingParams = GREEDY,
    seed: int = 0,
    num_logprobs: int | None = None,
    prediction: Sequence[int] = (),
    adapter: Adapter | None = None,
) -> Request:
    return Request(
        request_id=request_id,
        prompt_token_ids=prompt_token_ids,
        sampling=sampling,
        seed=seed,
        max_tokens=max_tokens,
        num_logprobs=num_logprobs,
        prediction=list(prediction),
        adapter=adapter,
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
