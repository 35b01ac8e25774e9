"""Paged attention in plain torch: gather each request's keys and values by slot, then torch's own attention. Exact.

Owns the KV memory: numbers, or 8-bit floats with scales. Requests that compute one token are attended to together, in
groups of similar length, the query heads that share a KV head standing in for query positions; a prefill chunk is
attended to alone. This is the reference that faster back ends are compared with, and the one that CPUs use.
"""

import math
import mmap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.info import AttentionInfo
from runtime.llm.attention_weights import weigh
from runtime.llm.forward_context import Scoring, StepAttention, StepPlan
from runtime.llm.fp8 import FP8, quantise_rows

_PAD_SLOT = 0
"""In the trash block, which this back end never writes: a padded key or value is always zero, never another's NaN."""

_PADDED_KEYS_MAX = 1024
"""Padding that a group of decodes may hold before it pays to attend to its shorter rows in a call of their own."""


class Span(NamedTuple):
    """One request's tokens in the flattened batch."""

    start: int
    num_tokens: int
    num_computed_tokens: int
    """Tokens before these, whose keys are stored already."""
    block_ids: Sequence[int]

    @property
    def num_keys(self) -> int:
        return self.num_computed_tokens + self.num_tokens


class _DecodeGroup(NamedTuple):
    rows: slice | torch.Tensor
    slots: torch.Tensor
    """Flattened [rows, keys]."""
    mask: torch.Tensor | None
    """[rows, 1, 1, keys], added to the scores; None when no row is padded."""


class _Chunk(NamedTuple):
    start: int
    stop: int
    slots: torch.Tensor | None
    """Of all visible keys; None when the chunk is a whole prompt so far and its keys are at hand."""
    mask: torch.Tensor | None
    """[tokens, keys]; None for plain causality over the keys at hand."""


class _Plan(NamedTuple):
    """How to attend with one window: the same for all layers that have it."""

    groups: list[_DecodeGroup]
    chunks: list[_Chunk]


class GatherAttention:
    """The back end of one model. `num_blocks` counts the trash block; `is_fp8`: KV is stored in 8-bit floats."""

    trial_spans: Sequence[tuple[int, int]] = ()
    """Tokens before, and tokens of steps whose first run takes longer than any later one."""

    def __init__(
        self,
        shape: AttentionInfo,
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        is_fp8: bool = False,
    ) -> None:
        self.shape = shape
        self.block_size = block_size
        self.dtype = dtype
        self.device = device
        self._stored_dtype = FP8 if is_fp8 else dtype
        places = (shape.num_layers, num_blocks * block_size, shape.num_kv_heads)
        self._memory_shape = (*places, sum(shape.part_sizes))
        self._scales_shape = (*places, len(shape.part_sizes)) if is_fp8 else (0,)
        self.caches: Sequence[torch.Tensor] = ()
        """By layer; the two parts of what a token has lie side by side, so that one gather fetches both."""
        self.scales: Sequence[torch.Tensor] = ()
        """By layer, of 8-bit floats: float32 [slots, KV heads, parts]."""
        self.allocate()

    @property
    def size_bytes(self) -> int:
        scales_bytes = math.prod(self._scales_shape) * torch.float32.itemsize
        return math.prod(self._memory_shape) * self._stored_dtype.itemsize + scales_bytes

    def allocate(self) -> None:
        """Take the memory, all zero."""
        memory = _zeros(math.prod(self._memory_shape), self._stored_dtype, self.device)
        self.caches = memory.view(self._memory_shape).unbind()
        if math.prod(self._scales_shape):
            memory = _zeros(math.prod(self._scales_shape), torch.float32, self.device)
            self.scales = memory.view(self._scales_shape).unbind()

    def release(self) -> None:
        """Give the memory back, with all that was stored."""
        self.caches = self.scales = ()

    def store(self, layer: int, slots: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """`rows` are [tokens, KV heads, both parts]; returns them as `load` gives them."""
        if not self.scales:
            self.caches[layer].index_copy_(0, slots, rows)
            return rows
        parts = [quantise_rows(part) for part in torch.split(rows, self.shape.part_sizes, dim=-1)]
        stored = torch.cat([part.view(torch.uint8) for part, _ in parts], dim=-1)  # torch copies no 8-bit floats
        scales = torch.cat([scale for _, scale in parts], dim=-1)
        self.caches[layer].view(torch.uint8).index_copy_(0, slots, stored)
        self.scales[layer].index_copy_(0, slots, scales)
        return self._rescaled(stored.view(FP8), scales)

    def load(self, layer: int, slots: torch.Tensor) -> torch.Tensor:
        if not self.scales:
            return self.caches[layer].index_select(0, slots)
        stored = self.caches[layer].view(torch.uint8).index_select(0, slots).view(FP8)
        return self._rescaled(stored, self.scales[layer].index_select(0, slots))

    def split(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys, and values or what begins with them."""
        if self.shape.has_values_in_keys:
            return rows, rows
        return rows[..., : self.shape.head_size], rows[..., self.shape.head_size :]

    def _rescaled(self, stored: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        parts = torch.split(stored.float(), self.shape.part_sizes, dim=-1)
        scaled = [part * scale for part, scale in zip(parts, torch.split(scales, 1, dim=-1), strict=True)]
        return torch.cat(scaled, dim=-1).to(self.dtype)

    def plan(self, spans: list[Span]) -> StepPlan:
        """`spans` follow one another without gap, from 0."""
        return _Unplanned(self, spans)

    def prepare(self, spans: list[Span]) -> StepAttention:
        """For steps of which nobody else has anything to bring to the device."""
        return GatherStep(self, spans)


class _Unplanned:
    """What this back end needs on the device it brings there by itself, layer by layer."""

    tables: Sequence[NDArray[np.int32]] = ()

    def __init__(self, backend: GatherAttention, spans: list[Span]) -> None:
        self._backend = backend
        self._spans = spans

    def begin(self, tables: Sequence[torch.Tensor]) -> StepAttention:
        return self._backend.prepare(self._spans)


class GatherStep:
    """One batch, for all layers; implements `forward_context.StepAttention`."""

    def __init__(self, backend: GatherAttention, spans: list[Span]) -> None:
        self._backend = backend
        self._spans = spans
        self._plans: dict[int | None, _Plan] = {}
        self._slot_mapping = self._on_device(
            np.concatenate([self._slots(span, span.num_computed_tokens) for span in spans])
        )

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        has_values_in_keys = self._backend.shape.has_values_in_keys
        rows = key if has_values_in_keys else torch.cat((key, value), dim=-1)
        stored = self._backend.store(layer, self._slot_mapping, rows)
        if has_values_in_keys or self._backend.scales:
            # Rounded or not, the tokens of this step see of each other what later ones will see.
            key, value = self._backend.split(stored)
        plan = self._plans.get(scoring.sliding_window) or self._plan(scoring.sliding_window)
        if len(plan.groups) == 1 and not plan.chunks:
            return self._attend_decodes(plan.groups[0], layer, query, scoring)
        output = query.new_empty(query.shape[0], query.shape[1], self._backend.shape.value_head_size)
        for group in plan.groups:
            output[group.rows] = self._attend_decodes(group, layer, query[group.rows], scoring)
        for chunk in plan.chunks:
            own = slice(chunk.start, chunk.stop)
            keys, values = key[own], value[own]
            if chunk.slots is not None:
                keys, values = self._backend.split(self._backend.load(layer, chunk.slots))
            attended = _attend_chunk(query[own], keys, values, chunk.mask, scoring)
            output[own] = attended[..., : output.shape[2]]
        return output

    def _attend_decodes(self, group: _DecodeGroup, layer: int, query: torch.Tensor, scoring: Scoring) -> torch.Tensor:
        num_rows, num_heads, head_size = query.shape
        gathered = self._backend.load(layer, group.slots)
        num_kv_heads, width = gathered.shape[1:]
        sharing = num_heads // num_kv_heads
        if scoring.sinks is not None:
            scoring = scoring._replace(sinks=scoring.sinks.view(num_kv_heads, sharing, 1))
        keys, values = self._backend.split(gathered.view(num_rows, -1, num_kv_heads, width))
        output = weigh(
            query.reshape(num_rows, num_kv_heads, sharing, head_size),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            group.mask,
            scoring,
            is_causal=False,
        )
        return output.reshape(num_rows, num_heads, -1)[..., : self._backend.shape.value_head_size].contiguous()

    def _plan(self, window: int | None) -> _Plan:
        decodes = [span for span in self._spans if span.num_tokens == 1]
        chunks = [span for span in self._spans if span.num_tokens > 1]
        plan = _Plan(
            [self._plan_group(group, window) for group in group_by_length(decodes, window)],
            [self._plan_chunk(span, window) for span in chunks],
        )
        self._plans[window] = plan
        return plan

    def _plan_group(self, spans: list[Span], window: int | None) -> _DecodeGroup:
        lengths = [_num_visible(span, window) for span in spans]
        longest = max(lengths)
        slots = np.full((len(spans), longest), _PAD_SLOT, dtype=np.int64)
        for row, (span, length) in enumerate(zip(spans, lengths, strict=True)):
            slots[row, :length] = self._slots(span, span.num_keys - length)
        mask = None
        if min(lengths) < longest:
            is_padding = np.arange(longest) >= np.array(lengths)[:, np.newaxis]
            mask = self._additive(is_padding)[:, None, None, :]
        return _DecodeGroup(self._rows(spans), self._on_device(slots.reshape(-1)), mask)

    def _rows(self, spans: list[Span]) -> slice | torch.Tensor:
        first = spans[0].start
        rows = [span.start for span in spans]
        if rows == list(range(first, first + len(rows))):
            return slice(first, first + len(rows))
        return self._on_device(np.array(rows, dtype=np.int64))

    def _plan_chunk(self, span: Span, window: int | None) -> _Chunk:
        start, stop = span.start, span.start + span.num_tokens
        is_windowed = window is not None and span.num_keys > window
        if span.num_computed_tokens == 0 and not is_windowed:
            return _Chunk(start, stop, None, None)
        # A query at position p sees the `window` keys up to p, itself included.
        first = max(0, span.num_computed_tokens - window + 1) if window is not None else 0
        queries = np.arange(span.num_computed_tokens, span.num_keys)[:, np.newaxis]
        keys = np.arange(first, span.num_keys)
        is_hidden = keys > queries
        if window is not None:
            is_hidden |= keys <= queries - window
        slots = self._on_device(self._slots(span, first)) if span.num_computed_tokens else None
        return _Chunk(start, stop, slots, self._additive(is_hidden))

    def _slots(self, span: Span, first: int) -> NDArray[np.int64]:
        """Where the keys from position `first` to the span's last lie in the cache."""
        block_size = self._backend.block_size
        first_block = first // block_size
        last_block = (span.num_keys - 1) // block_size
        starts = np.array(span.block_ids[first_block : last_block + 1], dtype=np.int64) * block_size
        slots = (starts[:, np.newaxis] + np.arange(block_size)).reshape(-1)
        skipped = first - first_block * block_size
        return slots[skipped : skipped + span.num_keys - first]

    def _additive(self, is_hidden: NDArray[np.bool_]) -> torch.Tensor:
        mask = torch.zeros(is_hidden.shape, dtype=self._backend.dtype, device=self._backend.device)
        return mask.masked_fill_(self._on_device(is_hidden), float("-inf"))

    def _on_device(self, array: NDArray[np.int64] | NDArray[np.bool_]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._backend.device, non_blocking=True)


def _zeros(num_elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type != "cpu":
        return torch.zeros(num_elements, dtype=dtype, device=device)
    # The kernel zeroes pages when they are first touched, so memory is taken block by block; torch would write it all.
    memory = mmap.mmap(-1, num_elements * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=torch.uint8).view(dtype)


def group_by_length(spans: list[Span], window: int | None) -> list[list[Span]]:
    """As few groups as hold no more padding each than allowed; within a group the order is that of the batch."""
    groups: list[list[Span]] = []
    padding = 0
    for span in sorted(spans, key=lambda span: span.num_keys, reverse=True):
        if groups:
            padding += _num_visible(groups[-1][0], window) - _num_visible(span, window)
        if not groups or padding > _PADDED_KEYS_MAX:
            groups.append([])
            padding = 0
        groups[-1].append(span)
    return [sorted(group, key=lambda span: span.start) for group in groups]


def _num_visible(span: Span, window: int | None) -> int:
    """Keys that the span's last token sees."""
    return span.num_keys if window is None else min(span.num_keys, window)


def _attend_chunk(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scoring: Scoring,
) -> torch.Tensor:
    num_tokens, num_heads, head_size = query.shape
    num_kv_heads = key.shape[1]
    sharing = num_heads // num_kv_heads
    if scoring.sinks is not None:
        scoring = scoring._replace(sinks=scoring.sinks.view(num_kv_heads, sharing, 1, 1))
    output = weigh(
        query.transpose(0, 1).reshape(num_kv_heads, sharing, num_tokens, head_size),
        key.transpose(0, 1).unsqueeze(1).expand(-1, sharing, -1, -1),
        value.transpose(0, 1).unsqueeze(1).expand(-1, sharing, -1, -1),
        mask,
        scoring,
        is_causal=mask is None,
    )
    return output.reshape(num_heads, num_tokens, -1).transpose(0, 1)
