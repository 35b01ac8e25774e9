"""Experts of mixtures as Triton kernels: tokens are grouped by expert on the device, so that nobody waits for the host.

Tiles of tokens of one expert are what programs compute; how many there are follows from the choice, which only the
device knows, so a launch is for the most that there can be, and programs beyond end at once. Every number is summed in
one order by one program: a batch gives the same bits each time. Its reference is `operations.mix_experts`, with the
same roundings but for the sum over a token's experts. Imports triton, so only what runs on CUDA may import it.
"""

from itertools import accumulate
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from runtime.llm.kernels.glu import activated
from runtime.llm.patches.expert_weights import ExpertWeights
from runtime.llm.patches.operations import Activation, ExpertChoice

_TILE_FIELDS = 3
"""Of one tile: the expert, its first place in the order of all choices, how many choices it has."""
_CHOICES_AT_ONCE = 1024
_COLUMNS_SUMMED = 1024
_MANY_PER_EXPERT = 32
"""Choices for each expert, on average, from which on tiles are large."""


class _Tiling(NamedTuple):
    rows: int
    gated_columns: int
    """Of gate, and as many of up."""
    columns: int
    depth: int
    num_warps: int
    num_stages: int


_FEW = _Tiling(16, 32, 64, 128, 4, 3)
_MANY = _Tiling(64, 64, 128, 64, 4, 3)
_FEW_OF_FLOAT32 = _Tiling(16, 16, 32, 32, 4, 2)
_MANY_OF_FLOAT32 = _Tiling(32, 16, 32, 32, 4, 2)


class _Tiles(NamedTuple):
    order: torch.Tensor
    """Choices, by expert; a choice is token × choices of each token + which."""
    table: torch.Tensor
    num_tiles: torch.Tensor
    num_tiles_max: int


def mix_experts(
    hidden_states: torch.Tensor, choice: ExpertChoice, experts: ExpertWeights, activation: Activation
) -> torch.Tensor:
    hidden_states = hidden_states.contiguous()
    num_tokens, width = hidden_states.shape
    num_chosen = choice.indices.shape[1]
    num_choices = num_tokens * num_chosen
    mixed = torch.empty_like(hidden_states)
    if not num_choices:
        return mixed
    indices, shares = choice.indices.contiguous(), choice.shares.contiguous()
    tiling = _choose_tiling(num_choices / experts.num_experts, hidden_states.dtype)
    tiles = _group_by_expert(indices, experts.num_experts, tiling.rows)
    inner = experts.down.shape[2]
    gated = hidden_states.new_empty(num_choices, inner)
    _gate_up_kernel[(tiles.num_tiles_max, triton.cdiv(inner, tiling.gated_columns))](
        hidden_states,
        experts.gate_up,
        *tiles[:3],
        gated,
        num_chosen,
        WIDTH=width,
        INNER=inner,
        ACTIVATION=activation,
        FIELDS=_TILE_FIELDS,
        ROWS=tiling.rows,
        COLUMNS=tiling.gated_columns,
        DEPTH=tiling.depth,
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
        enable_fp_fusion=True,
    )
    changed = hidden_states.new_empty(num_choices, width)
    _down_kernel[(tiles.num_tiles_max, triton.cdiv(width, tiling.columns))](
        gated,
        experts.down,
        *tiles[:3],
        shares,
        changed,
        WIDTH=width,
        INNER=inner,
        FIELDS=_TILE_FIELDS,
        ROWS=tiling.rows,
        COLUMNS=tiling.columns,
        DEPTH=tiling.depth,
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
        enable_fp_fusion=True,
    )
    _sum_kernel[(num_tokens, triton.cdiv(width, _COLUMNS_SUMMED))](
        changed,
        indices,
        mixed,
        num_chosen,
        NUM_EXPERTS=experts.num_experts,
        WIDTH=width,
        COLUMNS=_COLUMNS_SUMMED,
        enable_fp_fusion=True,
    )
    return mixed


def _choose_tiling(num_per_expert: float, dtype: torch.dtype) -> _Tiling:
    is_many = num_per_expert >= _MANY_PER_EXPERT
    if dtype == torch.float32:  # nothing but registers multiplies tiles of float32 exactly
        return _MANY_OF_FLOAT32 if is_many else _FEW_OF_FLOAT32
    return _MANY if is_many else _FEW


def _group_by_expert(indices: torch.Tensor, num_experts: int, rows: int) -> _Tiles:
    num_choices = indices.numel()
    # Each expert may have one tile that is not full.
    num_tiles_max = min(num_choices, num_choices // rows + num_experts)
    sizes = (num_choices, num_experts, num_tiles_max * _TILE_FIELDS, 1)
    memory = torch.empty(sum(sizes), dtype=torch.int32, device=indices.device)
    stops = accumulate(sizes)
    order, counts, table, num_tiles = (memory[stop - size : stop] for size, stop in zip(sizes, stops, strict=True))
    _count_kernel[(num_experts,)](indices, counts, num_choices, BLOCK=_CHOICES_AT_ONCE, enable_fp_fusion=True)
    _order_kernel[(num_experts,)](
        indices,
        counts,
        order,
        table,
        num_tiles,
        num_choices,
        NUM_EXPERTS=num_experts,
        EXPERTS=triton.next_power_of_2(num_experts),
        FIELDS=_TILE_FIELDS,
        ROWS=rows,
        BLOCK=_CHOICES_AT_ONCE,
        enable_fp_fusion=True,
    )
    return _Tiles(order, table, num_tiles, num_tiles_max)


@triton.jit(do_not_specialize=["num_choices"], do_not_specialize_on_alignment=["counts"])
def _count_kernel(indices: tl.tensor, counts: tl.tensor, num_choices: tl.tensor, BLOCK: tl.constexpr) -> None:
    expert = tl.program_id(0)
    count = 0
    for start in range(0, num_choices, BLOCK):
        choices = start + tl.arange(0, BLOCK)
        chosen = tl.load(indices + choices, mask=choices < num_choices, other=-1)
        count += tl.sum((chosen == expert).to(tl.int32), 0)
    tl.store(counts + expert, count)


@triton.jit(do_not_specialize=["num_choices"], do_not_specialize_on_alignment=["counts", "order", "table", "num_tiles"])
def _order_kernel(
    indices: tl.tensor,
    counts: tl.tensor,
    order: tl.tensor,
    table: tl.tensor,
    num_tiles: tl.tensor,
    num_choices: tl.tensor,
    NUM_EXPERTS: tl.constexpr,
    EXPERTS: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    expert = tl.program_id(0)
    others = tl.arange(0, EXPERTS)
    earlier = tl.load(counts + others, mask=others < expert, other=0)
    first = tl.sum(earlier, 0)
    tile = tl.sum((earlier + ROWS - 1) // ROWS, 0)
    count = tl.load(counts + expert)
    place = first
    for start in range(0, num_choices, BLOCK):
        choices = start + tl.arange(0, BLOCK)
        chosen = tl.load(indices + choices, mask=choices < num_choices, other=-1)
        is_own = (chosen == expert).to(tl.int32)
        tl.store(order + place + tl.cumsum(is_own, 0) - 1, choices, mask=is_own == 1)
        place += tl.sum(is_own, 0)
    for start in range(0, count, ROWS):
        entry = table + (tile + start // ROWS) * FIELDS
        tl.store(entry, expert)
        tl.store(entry + 1, first + start)
        tl.store(entry + 2, tl.minimum(count - start, ROWS))
    if expert == NUM_EXPERTS - 1:
        tl.store(num_tiles, tile + (count + ROWS - 1) // ROWS)


@triton.jit(do_not_specialize=["num_chosen"], do_not_specialize_on_alignment=["order", "table", "num_tiles"])
def _gate_up_kernel(
    hidden_states: tl.tensor,
    gate_up: tl.tensor,
    order: tl.tensor,
    table: tl.tensor,
    num_tiles: tl.tensor,
    gated: tl.tensor,
    num_chosen: tl.tensor,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    ACTIVATION: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    if tl.program_id(0) >= tl.load(num_tiles):
        return
    entry = table + tl.program_id(0) * FIELDS
    expert = tl.load(entry).to(tl.int64)
    rows = tl.arange(0, ROWS)
    places = tl.load(entry + 1) + rows
    is_row = rows < tl.load(entry + 2)
    tokens = (tl.load(order + places, mask=is_row, other=0) // num_chosen).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = columns < INNER
    inputs = hidden_states + tokens[:, None] * WIDTH
    weights = gate_up + expert * (2 * INNER * WIDTH) + columns[None, :] * WIDTH
    gate_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    up_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, WIDTH, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        is_depth = depth < WIDTH
        values = tl.load(inputs + depth[None, :], mask=is_row[:, None] & is_depth[None, :], other=0.0)
        is_weight = is_depth[:, None] & is_column[None, :]
        gate = tl.load(weights + depth[:, None], mask=is_weight, other=0.0)
        gate_sum = tl.dot(values, gate, gate_sum, input_precision="ieee")
        up = tl.load(weights + INNER * WIDTH + depth[:, None], mask=is_weight, other=0.0)
        up_sum = tl.dot(values, up, up_sum, input_precision="ieee")
    dtype: tl.constexpr = gated.dtype.element_ty
    active = activated(gate_sum.to(dtype).to(tl.float32), ACTIVATION)
    result = active.to(dtype).to(tl.float32) * up_sum.to(dtype).to(tl.float32)
    tl.store(
        gated + places.to(tl.int64)[:, None] * INNER + columns[None, :],
        result.to(dtype),
        mask=is_row[:, None] & is_column[None, :],
    )


@triton.jit(do_not_specialize_on_alignment=["order", "table", "num_tiles"])
def _down_kernel(
    gated: tl.tensor,
    down: tl.tensor,
    order: tl.tensor,
    table: tl.tensor,
    num_tiles: tl.tensor,
    shares: tl.tensor,
    changed: tl.tensor,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    if tl.program_id(0) >= tl.load(num_tiles):
        return
    entry = table + tl.program_id(0) * FIELDS
    expert = tl.load(entry).to(tl.int64)
    rows = tl.arange(0, ROWS)
    places = tl.load(entry + 1) + rows
    is_row = rows < tl.load(entry + 2)
    choices = tl.load(order + places, mask=is_row, other=0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = columns < WIDTH
    inputs = gated + places.to(tl.int64)[:, None] * INNER
    weights = down + expert * (WIDTH * INNER) + columns[None, :] * INNER
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, INNER, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        is_depth = depth < INNER
        values = tl.load(inputs + depth[None, :], mask=is_row[:, None] & is_depth[None, :], other=0.0)
        weight = tl.load(weights + depth[:, None], mask=is_depth[:, None] & is_column[None, :], other=0.0)
        total = tl.dot(values, weight, total, input_precision="ieee")
    dtype: tl.constexpr = changed.dtype.element_ty
    share = tl.load(shares + choices, mask=is_row, other=0.0).to(tl.float32)
    result = total.to(dtype).to(tl.float32) * share[:, None]
    tl.store(
        changed + choices.to(tl.int64)[:, None] * WIDTH + columns[None, :],
        result.to(dtype),
        mask=is_row[:, None] & is_column[None, :],
    )


@triton.jit(do_not_specialize=["num_chosen"])
def _sum_kernel(
    changed: tl.tensor,
    indices: tl.tensor,
    mixed: tl.tensor,
    num_chosen: tl.tensor,
    NUM_EXPERTS: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = columns < WIDTH
    total = tl.zeros([COLUMNS], tl.float32)
    for number in range(num_chosen):
        choice = token * num_chosen + number
        width = tl.where(tl.load(indices + choice) < NUM_EXPERTS, WIDTH, 0)
        total += tl.load(changed + choice * WIDTH + columns, mask=columns < width, other=0.0).to(tl.float32)
    tl.store(mixed + token * WIDTH + columns, total.to(mixed.dtype.element_ty), mask=is_column)
