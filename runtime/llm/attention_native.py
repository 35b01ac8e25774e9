"""Paged attention in C, for bfloat16 on a CPU: decodes, chunks and whole prompts by the same function.

Memory and its layout are `GatherAttention`'s, which is also the reference.
"""

from collections.abc import Sequence
from ctypes import byref
from itertools import accumulate, chain

import numpy as np
import torch
from numpy.typing import NDArray

from models.info import AttentionInfo
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.forward_context import Scoring, StepAttention
from runtime.llm.native import library
from runtime.llm.native.structures import describe_heads, point_tokens


def suits_native(shape: AttentionInfo, dtype: torch.dtype, device: torch.device, *, is_fp8: bool) -> bool:
    return (
        device.type == "cpu"
        and dtype is torch.bfloat16
        and not is_fp8
        and not shape.has_values_in_keys
        and shape.head_size == shape.value_head_size
        and shape.head_size % 2 == 0
        and shape.head_size <= library.HEAD_SIZE_MAX
        and shape.num_heads // shape.num_kv_heads <= library.HEADS_PER_KV_HEAD_MAX
        and library.load() is not None
    )


class NativeAttention(GatherAttention):
    """The back end of one model that `suits_native`."""

    def prepare(self, spans: list[Span]) -> StepAttention:
        return NativeStep(self, spans)


class NativeStep:
    """One batch, for all layers; implements `forward_context.StepAttention`."""

    def __init__(self, backend: NativeAttention, spans: list[Span]) -> None:
        self._shape = backend.shape
        self._caches = backend.caches
        tables = _tables(spans, backend.block_size)
        self._tables = tables
        pointers = (table.ctypes.data for table in tables)
        self.batch = library.Batch(*pointers, len(spans), len(tables[2]), backend.block_size)
        self._asked: tuple[NDArray[np.int32], NDArray[np.int64]] | None = None
        self._memory = torch.empty(0, dtype=torch.uint8)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        shape = self._shape
        if scoring.sinks is not None:
            scoring = scoring._replace(sinks=scoring.sinks.float())
        heads = describe_heads(shape.num_heads, shape.num_kv_heads, shape.head_size, scoring)
        query, key, value = map(_beside, (query, key, value))
        output = query.new_empty(query.shape)
        library.functions().attend(
            byref(self.batch),
            byref(heads),
            *map(point_tokens, (query, key, value)),
            self.cache(layer).data_ptr(),
            output.data_ptr(),
        )
        return output

    def ask(self, rows: NDArray[np.int64] | None) -> library.Asked | None:
        """These tokens of the batch, ascending, as C takes them; None: they are all."""
        if rows is None or len(rows) == len(self._tables[2]):
            return None
        spans = _spans_of(rows, self._tables[0])
        self._asked = spans, rows
        return library.Asked(spans.ctypes.data, rows.ctypes.data, len(spans), len(rows))

    def cache(self, layer: int) -> torch.Tensor:
        return self._caches[layer]

    def memory(self, num_bytes: int) -> torch.Tensor:
        """For one call at a time."""
        if len(self._memory) < num_bytes:
            self._memory = torch.empty(num_bytes, dtype=torch.uint8)
        return self._memory


def _beside(heads: torch.Tensor) -> torch.Tensor:
    """[tokens, heads, size], each token's heads one behind another."""
    is_so = heads.stride(1) == heads.shape[2] and heads.stride(2) == 1
    return heads if is_so else heads.contiguous()


def _tables(spans: Sequence[Span], block_size: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Spans and blocks as `attention.h` has them, and the slot of each token."""
    first_blocks = accumulate((len(span.block_ids) for span in spans[:-1]), initial=0)
    table = np.array(
        [
            (span.start, span.num_tokens, span.num_computed_tokens, first_block)
            for span, first_block in zip(spans, first_blocks, strict=True)
        ],
        dtype=np.int32,
    )
    blocks = np.fromiter(chain.from_iterable(span.block_ids for span in spans), dtype=np.int32)
    starts, lengths, computed, first = table.T
    positions = np.arange(lengths.sum()) + np.repeat(computed - starts, lengths)
    own_blocks = blocks[np.repeat(first, lengths) + positions // block_size].astype(np.int64)
    return table, blocks, own_blocks * block_size + positions % block_size


def _spans_of(rows: NDArray[np.int64], spans: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each span from the first of these tokens in it to the last."""
    starts, lengths, computed, first_blocks = spans.T
    first, stop = np.searchsorted(rows, starts), np.searchsorted(rows, starts + lengths)
    has_any = stop > first
    begin, end = rows[first[has_any]], rows[stop[has_any] - 1] + 1
    columns = (begin, end - begin, (computed - starts)[has_any] + begin, first_blocks[has_any])
    return np.stack(columns, axis=1).astype(np.int32)
