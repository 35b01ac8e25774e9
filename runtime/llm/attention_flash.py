"""Long prompts by flash-attn 3 where that is installed (Shah et al., FlashAttention-3, 2024), all else by Triton.

It attends to requests with more tokens in a step than any graph holds, over the same KV memory: whether a request is
one of those follows from its own tokens alone, and decodes are the same with the package and without. A package that
does not give what torch gives on this device, or cannot be called as it is here, is not used, and the log says so.
"""

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

import msgspec
import numpy as np
import torch

from models.info import AttentionInfo
from models.sizing import GRAPH_TOKENS_MAX
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.attention_triton import TritonAttention, TritonPlan, TritonStep
from runtime.llm.attention_work import Table
from runtime.llm.forward_context import Scoring, StepAttention
from runtime.llm.patches.operations import HeadNorms, Rotation

logger = logging.getLogger(__name__)

PACKAGE = "flash_attn_interface"
"""The module that flash-attn 3 installs; flash-attn 2 is called otherwise, and wants blocks of 256 tokens."""
_CAPABILITY = 9
"""The major version of the GPUs that it is written for."""
_HEAD_SIZE_MAX = 256
_TOLERANCE = 2e-2
"""Of outputs around 1 in bfloat16, whose weights are rounded, too."""

FlashFunction = Callable[..., torch.Tensor]
"""Its `flash_attn_with_kvcache`."""


def find_flash(shape: AttentionInfo, dtype: torch.dtype, device: torch.device, *, is_fp8: bool) -> FlashFunction | None:
    """None where it is not installed, is not for this model or GPU, or gives something else than torch."""
    if is_fp8 or not _suits(shape, dtype, device) or find_spec(PACKAGE) is None:
        return None
    try:
        function: FlashFunction = import_module(PACKAGE).flash_attn_with_kvcache
        error = _largest_error(function, shape, dtype, device)
    except (ImportError, OSError, AttributeError, TypeError, ValueError, AssertionError, RuntimeError) as failure:
        logger.warning("flash-attn 3 is installed but cannot be used, so Triton attends to prompts: %s", failure)
        return None
    if not error <= _TOLERANCE:  # NaN is not either
        logger.warning("flash-attn 3 is off by %.3g on this device, so Triton attends to prompts", error)
        return None
    logger.info("flash-attn 3 attends to prompts of more than %d tokens", GRAPH_TOKENS_MAX)
    return function


def _suits(shape: AttentionInfo, dtype: torch.dtype, device: torch.device) -> bool:
    return (
        dtype in (torch.bfloat16, torch.float16)
        and not shape.has_values_in_keys
        and shape.head_size == shape.value_head_size
        and shape.head_size % 8 == 0
        and shape.head_size <= _HEAD_SIZE_MAX
        and device.type == "cuda"
        and torch.cuda.get_device_capability(device)[0] == _CAPABILITY
    )


class FlashAttention(TritonAttention):
    """The back end of one model for which `find_flash` found `function`."""

    def __init__(
        self,
        shape: AttentionInfo,
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        is_fp8: bool = False,
        function: FlashFunction,
    ) -> None:
        assert not is_fp8, "it has one scale for all tokens"
        super().__init__(shape, num_blocks=num_blocks, block_size=block_size, dtype=dtype, device=device)
        self.function = function

    def plan(self, spans: list[Span]) -> TritonPlan:
        prompts = [span for span in spans if span.num_tokens > GRAPH_TOKENS_MAX]
        return FlashPlan(self, spans, prompts) if prompts else TritonPlan(self, spans)


class FlashPlan(TritonPlan):
    """Tables of a batch with long prompts: those of Triton for the rest, and the prompts' own behind them."""

    def __init__(self, backend: FlashAttention, spans: list[Span], prompts: list[Span]) -> None:
        super().__init__(backend, spans, num_tokens_max=GRAPH_TOKENS_MAX)
        self._flash = backend
        self._prompts = prompts
        self._prompt_tables = prompt_tables(prompts)

    @property
    def tables(self) -> list[Table]:
        return [*super().tables, *self._prompt_tables]

    def begin(self, tables: Sequence[torch.Tensor]) -> StepAttention:
        own = len(self._prompt_tables)
        prompts = Prompts(self._flash.function, self._flash.block_size, self._prompts, tables[-own:])
        return FlashStep(self._flash, tables[:-own], self.counts.num_partials, self._spans, prompts)


def prompt_tables(prompts: list[Span]) -> list[Table]:
    """Where each begins when they follow one another and where the last ends, how many keys each has, their blocks in
    rows of one length, and their tokens' places in the batch."""
    lengths = [span.num_tokens for span in prompts]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    num_keys = np.array([span.num_keys for span in prompts], dtype=np.int32)
    blocks = np.zeros((len(prompts), max(len(span.block_ids) for span in prompts)), dtype=np.int32)
    for row, span in zip(blocks, prompts, strict=True):
        row[: len(span.block_ids)] = span.block_ids
    places = np.concatenate([np.arange(span.start, span.start + span.num_tokens) for span in prompts])
    return [starts, num_keys, blocks, places.astype(np.int32)]


class Prompts:
    """Those of one batch; `tables` are its `prompt_tables` on the device."""

    def __init__(
        self, function: FlashFunction, block_size: int, prompts: list[Span], tables: Sequence[torch.Tensor]
    ) -> None:
        self._function = function
        self._block_size = block_size
        self._starts, self._num_keys, self._blocks, places = tables
        self._num_tokens_max = max(span.num_tokens for span in prompts)
        first, last = prompts[0].start, prompts[-1].start + prompts[-1].num_tokens
        # Prompts mostly follow one another, and then nothing is copied.
        self._places = slice(first, last) if last - first == len(places) else places

    def attend(self, output: torch.Tensor, query: torch.Tensor, cache: torch.Tensor, scoring: Scoring) -> None:
        """Fill the prompts' rows of `output`; their keys are in `cache` [slots, KV heads, key and value]."""
        assert scoring.sinks is None, "it knows none"
        window = scoring.sliding_window
        blocks = cache.view(-1, self._block_size, *cache.shape[1:])
        keys, values = blocks.chunk(2, dim=-1)
        output[self._places] = self._function(
            query[self._places],
            keys,
            values,
            cache_seqlens=self._num_keys,
            page_table=self._blocks,
            cu_seqlens_q=self._starts,
            max_seqlen_q=self._num_tokens_max,
            softmax_scale=scoring.scaling,
            causal=True,
            window_size=(-1, -1) if window is None else (window - 1, 0),
            softcap=scoring.softcap or 0.0,
            num_splits=1,  # what a request gets does not depend on the others
        )


class FlashStep(TritonStep):
    """One batch, for all layers; implements `forward_context.StepAttention`."""

    def __init__(
        self,
        backend: FlashAttention,
        tables: Sequence[torch.Tensor],
        num_partials: int,
        spans: list[Span],
        prompts: Prompts,
    ) -> None:
        super().__init__(backend, tables, num_partials, spans)
        self._prompts = prompts

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        if scoring.sinks is not None or not self.has_planned(scoring.sliding_window):
            return self.gather().attend(layer, query, key, value, scoring)
        output = super().attend(layer, query, key, value, scoring)
        self._prompts.attend(output, query, self._backend.caches[layer], scoring)
        return output

    def rotate_and_attend(
        self, layer: int, heads: torch.Tensor, rotation: Rotation, norms: HeadNorms | None, scoring: Scoring
    ) -> torch.Tensor | None:
        output = super().rotate_and_attend(layer, heads, rotation, norms, scoring) if scoring.sinks is None else None
        if output is not None:
            self._prompts.attend(output, heads[:, : output.shape[1]], self._backend.caches[layer], scoring)
        return output


def _largest_error(function: FlashFunction, shape: AttentionInfo, dtype: torch.dtype, device: torch.device) -> float:
    """Of two prompts behind other tokens, against the gathered back end."""
    spans = [Span(0, 70, 37, [7, 2, 5, 1]), Span(70, 33, 0, [3, 6])]
    block_size = 32
    one_layer = msgspec.structs.replace(shape, num_layers=1, sliding_window=None, full_attention_layers=[])
    gathering = GatherAttention(one_layer, num_blocks=8, block_size=block_size, dtype=dtype, device=device)
    generator = torch.Generator(device).manual_seed(0)

    def random(num_heads: int) -> torch.Tensor:
        heads = torch.randn(103, num_heads, shape.head_size, generator=generator, device=device)
        return heads.to(dtype)

    cache = gathering.caches[0]
    cache.copy_(torch.randn(cache.shape, generator=generator, device=device))
    query, key, value = random(shape.num_heads), random(shape.num_kv_heads), random(shape.num_kv_heads)
    scoring = Scoring(shape.head_size**-0.5)
    expected = gathering.prepare(spans).attend(0, query, key, value, scoring)
    tables = [torch.from_numpy(table).to(device) for table in prompt_tables(spans)]
    output = torch.empty_like(expected)
    Prompts(function, block_size, spans, tables).attend(output, query, cache, scoring)
    return float((output.float() - expected.float()).abs().max())
