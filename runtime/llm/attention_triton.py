"""Paged attention by Triton kernels, for GPUs: the back end beside `attention_gather.py`, over the same KV memory.

Knows which tiles suit the device, and plans each step's tables, padded where a captured graph reads them. A layer that
asks for a window that the model's description does not have is attended to by the gathered path. Imports triton, so
only workers on CUDA import this (`attention_choice.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from models.info import AttentionInfo
from runtime.llm.attention_gather import GatherAttention, GatherStep, Span
from runtime.llm.attention_work import (
    FEW_TOKENS,
    ITEM_FIELDS,
    MERGE_FIELDS,
    SEGMENT_KEYS_MIN,
    Rows,
    Table,
    Tiling,
    WorkCounts,
    heads_at_once,
    pad_items,
    pad_merges,
    plan_work,
)
from runtime.llm.forward_context import Scoring, StepAttention, current_attention
from runtime.llm.kernels.kv_write import write_kv
from runtime.llm.kernels.paged_attention import Partials, attend_paged, merge_partials, num_columns
from runtime.llm.kernels.rotary_kv import rotate_into_cache
from runtime.llm.patches.operations import HeadNorms, Rotation
from runtime.llm.staging import Staging

NO_SLOT = -1
"""Of a token that is padding."""

# Rows, keys and stages of tiles, the best first; the first that a device has shared memory for is taken.
_FEW = [(16, 64, 3), (16, 64, 2), (16, 32, 2), (16, 16, 2), (16, 16, 1)]
_MANY = [(128, 64, 3), (128, 64, 2), (64, 64, 2), (64, 32, 2), (32, 32, 2), (16, 16, 1)]
# Nothing but registers multiplies tiles of float32 exactly, and larger tiles overflow those.
_FEW_OF_FLOAT32 = [(16, 16, 2), (16, 16, 1)]
_MANY_OF_FLOAT32 = [(32, 32, 2), (16, 16, 1)]
# Of latents, which all heads share: 512 values for each row fill registers, so heads are divided among programs.
_FEW_OF_LATENTS = [(16, 32, 2), (16, 16, 2), (16, 16, 1)]
_MANY_OF_LATENTS = [(64, 32, 2), (32, 32, 2), (32, 16, 2), (16, 16, 2), (16, 16, 1)]
_SHARED_BYTES_LEAST = 96 * 1024
"""That GPUs which compute bfloat16 have for one program; taken where there is none to ask."""


class Tilings(NamedTuple):
    few: Tiling
    """For requests of few tokens, which are as fast as their keys are read."""
    many: Tiling


class TritonAttention(GatherAttention):
    """The back end of one model."""

    trial_spans = ((0, 1), (0, FEW_TOKENS + 1), (SEGMENT_KEYS_MIN, 1))
    """Between them they need every kernel of this back end."""

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
        assert num_blocks * block_size < 2**31, "a slot is an int32 in a step's tables"
        super().__init__(shape, num_blocks=num_blocks, block_size=block_size, dtype=dtype, device=device, is_fp8=is_fp8)
        self.tilings = choose_tilings(shape, dtype, _shared_bytes(device))
        self.windows = {shape.window(layer) for layer in range(shape.num_layers)}
        self._staging = Staging(device)

    @property
    def tokens_per_tile(self) -> int:
        """Of a prompt, that one program takes on."""
        return self.tilings.many.num_rows // heads_at_once(self.num_sharing, self.tilings.many)

    @property
    def num_sharing(self) -> int:
        """Query heads that share a KV head."""
        return self.shape.num_heads // self.shape.num_kv_heads

    def plan(self, spans: list[Span]) -> "TritonPlan":
        return TritonPlan(self, spans)

    def prepare(self, spans: list[Span]) -> StepAttention:
        plan = self.plan(spans)
        return plan.begin(self._staging.bring(plan.tables))


class TritonPlan:
    """Tables of one batch; implements `graphs.PaddablePlan`."""

    def __init__(self, backend: TritonAttention, spans: list[Span], num_tokens_max: int | None = None) -> None:
        """Requests of more tokens are stored, but attended to by somebody else."""
        self._backend = backend
        self._spans = spans
        self._rows = Rows.of(spans)
        attended = self._rows if num_tokens_max is None else self._rows.chosen(self._rows.num_tokens <= num_tokens_max)
        self._works = [_plan(attended, backend, window) for window in backend.windows]
        self._slots = self._rows.slots(backend.block_size)

    @property
    def tables(self) -> list[Table]:
        """Slots, three for each window, block tables."""
        works = [table for work in self._works for table in (work.few, work.many, work.merges)]
        return [self._slots, *works, self._rows.block_tables]

    @property
    def counts(self) -> WorkCounts:
        """Of the window that needs most of each."""
        return WorkCounts(
            num_few=max(len(work.few) for work in self._works),
            num_many=max(len(work.many) for work in self._works),
            num_merges=max(len(work.merges) for work in self._works),
            num_partials=max(work.num_partials for work in self._works),
            num_blocks=len(self._rows.block_tables),
        )

    def padded(self, num_tokens: int, room: WorkCounts) -> list[Table]:
        """As `tables`, in the shapes of `table_shapes` but for the last, which is shorter."""
        padding = range(len(self._slots), num_tokens)
        slots = np.full(num_tokens, NO_SLOT, dtype=np.int32)
        slots[: len(self._slots)] = self._slots
        works = [
            table
            for work in self._works
            for table in (
                pad_items(work.few, room.num_few, padding),
                pad_items(work.many, room.num_many, range(0)),
                pad_merges(work.merges, room.num_merges),
            )
        ]
        return [slots, *works, self._rows.block_tables]

    def table_shapes(self, num_tokens: int, room: WorkCounts) -> list[tuple[int, ...]]:
        own = [(room.num_few, ITEM_FIELDS), (room.num_many, ITEM_FIELDS), (room.num_merges, MERGE_FIELDS)]
        return [(num_tokens,), *own * len(self._works), (room.num_blocks,)]

    def begin(self, tables: Sequence[torch.Tensor]) -> StepAttention:
        return TritonStep(self._backend, tables, self.counts.num_partials, self._spans)

    def begin_padded(self, tables: Sequence[torch.Tensor], room: WorkCounts) -> StepAttention:
        return TritonStep(self._backend, tables, room.num_partials)


class _Launches(NamedTuple):
    """What the layers of one window have the kernels do; tables on the device, or on their way there."""

    few: torch.Tensor
    many: torch.Tensor
    merges: torch.Tensor


class TritonStep:
    """One batch, for all layers; implements `forward_context.StepAttention`. `spans`: None in a captured step."""

    def __init__(
        self,
        backend: TritonAttention,
        tables: Sequence[torch.Tensor],
        num_partials: int,
        spans: list[Span] | None = None,
    ) -> None:
        self._backend = backend
        self._spans = spans
        self._gathered: GatherStep | None = None
        self._slots, *on_device, self._block_tables = tables
        self._launches = {window: _Launches(*on_device[3 * i : 3 * i + 3]) for i, window in enumerate(backend.windows)}
        shape = backend.shape
        self._partials = Partials(num_partials, shape.num_heads, shape.value_head_size, backend.device)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        launches = self._launches.get(scoring.sliding_window)
        if launches is None:
            return self.gather().attend(layer, query, key, value, scoring)
        shape = self._backend.shape
        first, second = torch.split(key, shape.part_sizes, dim=-1) if shape.has_values_in_keys else (key, value)
        write_kv(self._backend.caches[layer], first, second, self._slots, self._scales(layer))
        return self._attend_stored(layer, query, scoring, launches)

    def rotate_and_attend(
        self, layer: int, heads: torch.Tensor, rotation: Rotation, norms: HeadNorms | None, scoring: Scoring
    ) -> torch.Tensor | None:
        """As `layer_operations.RotateAndAttend`."""
        launches, cache = self._launches.get(scoring.sliding_window), self._backend.caches[layer]
        if launches is None or cache.shape[2] != 2 * heads.shape[2]:
            return None
        query = rotate_into_cache(heads, rotation, norms, cache, self._slots, self._scales(layer))
        return self._attend_stored(layer, query, scoring, launches)

    def has_planned(self, window: int | None) -> bool:
        return window in self._launches

    def gather(self) -> GatherStep:
        """The same batch by plain torch."""
        if self._spans is None:
            raise RuntimeError("a layer's window is not that of the model's description")
        if self._gathered is None:
            self._gathered = GatherStep(self._backend, self._spans)
        return self._gathered

    def _attend_stored(self, layer: int, query: torch.Tensor, scoring: Scoring, launches: _Launches) -> torch.Tensor:
        """The step's own keys and values are in the cache."""
        tilings = self._backend.tilings
        output = query.new_empty(query.shape[0], query.shape[1], self._backend.shape.value_head_size)
        for items, tiling in ((launches.few, tilings.few), (launches.many, tilings.many)):
            if len(items):
                attend_paged(
                    output,
                    query,
                    self._backend.caches[layer],
                    self._block_tables,
                    items,
                    self._partials,
                    scoring,
                    scales=self._scales(layer),
                    block_size=self._backend.block_size,
                    tiling=tiling,
                )
        if len(launches.merges):
            merge_partials(output, self._partials, launches.merges, scoring.sinks)
        return output

    def _scales(self, layer: int) -> torch.Tensor | None:
        return self._backend.scales[layer] if self._backend.scales else None


def rotate_and_attend(
    layer: int, heads: torch.Tensor, rotation: Rotation, norms: HeadNorms | None, scoring: Scoring
) -> torch.Tensor | None:
    """As `layer_operations.RotateAndAttend`: in steps of this back end."""
    step = current_attention()
    return step.rotate_and_attend(layer, heads, rotation, norms, scoring) if isinstance(step, TritonStep) else None


class _Work(NamedTuple):
    few: Table
    many: Table
    merges: Table
    num_partials: int


def _plan(rows: Rows, backend: TritonAttention, window: int | None) -> _Work:
    num_sharing = backend.num_sharing
    few = plan_work(rows.of_few_tokens(few=True), backend.tilings.few, num_sharing, window)
    many = plan_work(rows.of_few_tokens(few=False), backend.tilings.many, num_sharing, window, few.num_partials)
    merges = np.concatenate([few.merges, many.merges])
    return _Work(few.items, many.items, merges, few.num_partials + many.num_partials)


def choose_tilings(shape: AttentionInfo, dtype: torch.dtype, shared_bytes: int) -> Tilings:
    """The largest that fit; not by trying, which would take time at every start and choose differently each time."""
    if shape.has_values_in_keys:
        return _choose_tilings_of_latents(shape, dtype, shared_bytes)
    key_columns, value_columns = num_columns(shape.head_size), num_columns(shape.value_head_size)
    num_rows_min = num_columns(shape.num_heads // shape.num_kv_heads)

    def largest(tiles: list[tuple[int, int, int]], num_at_once: int) -> tuple[int, int, int]:
        tiles = [(max(num_rows, num_rows_min), num_keys, num_stages) for num_rows, num_keys, num_stages in tiles]
        for num_rows, num_keys, num_stages in tiles:
            num_elements = num_rows * key_columns + num_stages * num_keys * (key_columns + value_columns)
            if num_at_once * num_elements * dtype.itemsize <= shared_bytes:
                return num_rows, num_keys, num_stages
        return tiles[-1]

    is_float32 = dtype == torch.float32
    # Two at once, so that one reads keys while the other computes.
    num_rows, num_keys, num_stages = largest(_FEW_OF_FLOAT32 if is_float32 else _FEW, 2)
    few = Tiling(num_rows, num_keys, 4, num_stages)
    num_rows, num_keys, num_stages = largest(_MANY_OF_FLOAT32, 2) if is_float32 else largest(_MANY, 1)
    is_large = is_float32 or num_rows * max(key_columns, value_columns) >= 128 * 128
    return Tilings(few, Tiling(num_rows, num_keys, 8 if is_large else 4, num_stages))


def _choose_tilings_of_latents(shape: AttentionInfo, dtype: torch.dtype, shared_bytes: int) -> Tilings:
    columns = sum(num_columns(size) for size in shape.part_sizes)

    def largest(tiles: list[tuple[int, int, int]]) -> tuple[int, int, int]:
        for num_rows, num_keys, num_stages in tiles:
            if (num_rows + num_stages * num_keys) * columns * dtype.itemsize <= shared_bytes:
                return num_rows, num_keys, num_stages
        return tiles[-1]

    is_float32 = dtype == torch.float32
    num_rows, num_keys, num_stages = largest(_FEW_OF_FLOAT32 if is_float32 else _FEW_OF_LATENTS)
    few = Tiling(num_rows, num_keys, 4, num_stages)
    num_rows, num_keys, num_stages = largest(_MANY_OF_FLOAT32 if is_float32 else _MANY_OF_LATENTS)
    return Tilings(few, Tiling(num_rows, num_keys, 8, num_stages))


def _shared_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return _SHARED_BYTES_LEAST
    properties: Any = torch.cuda.get_device_properties(device)  # torch's stubs lack this one
    return int(properties.shared_memory_per_block_optin)
