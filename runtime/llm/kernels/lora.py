"""What adapters add to a linear layer's output, as two Triton kernels: one narrows inputs, one widens into the output.

Which tokens a program takes, and with which adapter, stands in a table that `adapters/grouping.py` makes on the host;
programs beyond it end at once, so that a launch depends on the number of tokens alone. Narrowing is divided among
programs where there are few tokens; the parts are summed in their order by each who reads them. Its reference is
`LowRankChange.add`, with the same roundings. Imports triton, so only what runs on CUDA may import it.
"""

import torch
import triton
import triton.language as tl

from runtime.llm.adapters.grouping import ITEM_FIELDS, ROWS, num_items_max
from runtime.llm.adapters.stacks import Groups, LoraStack, columns_at_once

_SPLITS_MAX = 8
_SPLIT_ROWS = 2048
"""Tokens × splits: with more there are programs enough to keep a device busy."""
_DEPTH = 64
"""Of inputs, at a time."""
_SPLIT_DEPTH_MIN = 4 * _DEPTH
_NARROWEST = 16
"""Of Triton's products."""


def add(outputs: torch.Tensor, inputs: torch.Tensor, stack: LoraStack, groups: Groups) -> None:
    num_tokens, width = inputs.shape
    if not num_tokens:
        return
    assert outputs.is_contiguous()
    assert inputs.stride(1) == 1
    num_items = num_items_max(num_tokens, stack.num_slots)
    num_splits = min(_splits_max(width), max(1, _SPLIT_ROWS // num_tokens))
    ranks_at_once = _ranks_at_once(stack)
    _shrink_kernel[(num_items, num_splits, stack.num_parts)](
        inputs,
        stack.narrowing,
        stack.ranks,
        groups.items,
        groups.tokens,
        groups.partials,
        inputs.stride(0),
        num_tokens,
        num_splits,
        WIDTH=width,
        NUM_PARTS=stack.num_parts,
        RANK_MAX=stack.rank_max,
        FIELDS=ITEM_FIELDS,
        ROWS=ROWS,
        RANKS=ranks_at_once,
        DEPTH=_DEPTH if inputs.dtype.itemsize == 2 else _DEPTH // 2,
        enable_fp_fusion=True,
    )
    _expand_kernel[(num_items, len(stack.tiles))](
        outputs,
        stack.widening,
        stack.ranks,
        stack.tiles,
        groups.items,
        groups.tokens,
        groups.partials,
        num_tokens,
        num_splits,
        NUM_OUTPUTS=outputs.shape[1],
        NUM_PARTS=stack.num_parts,
        RANK_MAX=stack.rank_max,
        FIELDS=ITEM_FIELDS,
        ROWS=ROWS,
        RANKS=ranks_at_once,
        COLUMNS=columns_at_once(outputs.dtype),
        DEPTH=_NARROWEST,
        SPLITS_MAX=_splits_max(width),
        num_stages=2,
        enable_fp_fusion=True,
    )


def num_partials(stack: LoraStack, num_tokens_max: int) -> int:
    num_rows = min(_SPLITS_MAX * num_tokens_max, max(_SPLIT_ROWS, num_tokens_max))
    return num_rows * stack.num_parts * _ranks_at_once(stack)


def _ranks_at_once(stack: LoraStack) -> int:
    return max(_NARROWEST, int(triton.next_power_of_2(stack.rank_max)))


def _splits_max(width: int) -> int:
    return max(1, min(_SPLITS_MAX, width // _SPLIT_DEPTH_MIN))


@triton.jit(do_not_specialize=["num_tokens", "num_splits"])
def _shrink_kernel(
    inputs: tl.tensor,
    narrowing: tl.tensor,
    ranks: tl.tensor,
    items: tl.tensor,
    tokens: tl.tensor,
    partials: tl.tensor,
    input_stride: tl.tensor,
    num_tokens: tl.tensor,
    num_splits: tl.tensor,
    WIDTH: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    RANK_MAX: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    RANKS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    item = items + tl.program_id(0) * FIELDS
    slot = tl.load(item)
    if slot < 0:
        return
    split = tl.program_id(1)
    part = tl.program_id(2)
    rank = tl.load(ranks + slot * NUM_PARTS + part)
    if rank == 0:
        return
    rows = tl.arange(0, ROWS)
    places = tl.load(item + 1) + rows
    is_row = rows < tl.load(item + 2)
    own = tl.load(tokens + places, mask=is_row, other=0).to(tl.int64)
    columns = tl.arange(0, RANKS)
    is_column = columns < rank
    matrix = narrowing + (slot * NUM_PARTS + part).to(tl.int64) * (RANK_MAX * WIDTH) + columns[None, :] * WIDTH
    total = tl.zeros([ROWS, RANKS], tl.float32)
    num_steps = tl.cdiv(tl.cdiv(WIDTH, DEPTH), num_splits)
    first = split * num_steps * DEPTH
    for start in range(first, tl.minimum(first + num_steps * DEPTH, WIDTH), DEPTH):
        depth = start + tl.arange(0, DEPTH)
        is_depth = depth < WIDTH
        values = tl.load(
            inputs + own[:, None] * input_stride + depth[None, :], mask=is_row[:, None] & is_depth[None, :], other=0.0
        )
        weights = tl.load(matrix + depth[:, None], mask=is_depth[:, None] & is_column[None, :], other=0.0)
        total = tl.dot(values, weights, total, input_precision="ieee")
    narrow = partials + ((split * num_tokens + places) * NUM_PARTS + part)[:, None] * RANKS + columns[None, :]
    tl.store(narrow, total, mask=is_row[:, None] & is_column[None, :])


@triton.jit(do_not_specialize=["num_tokens", "num_splits"])
def _expand_kernel(
    outputs: tl.tensor,
    widening: tl.tensor,
    ranks: tl.tensor,
    tiles: tl.tensor,
    items: tl.tensor,
    tokens: tl.tensor,
    partials: tl.tensor,
    num_tokens: tl.tensor,
    num_splits: tl.tensor,
    NUM_OUTPUTS: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    RANK_MAX: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    RANKS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    SPLITS_MAX: tl.constexpr,
) -> None:
    item = items + tl.program_id(0) * FIELDS
    slot = tl.load(item)
    if slot < 0:
        return
    tile = tiles + tl.program_id(1) * 3
    part = tl.load(tile)
    rank = tl.load(ranks + slot * NUM_PARTS + part)
    if rank == 0:
        return
    rows = tl.arange(0, ROWS)
    places = tl.load(item + 1) + rows
    is_row = rows < tl.load(item + 2)
    columns = tl.load(tile + 1) + tl.arange(0, COLUMNS)
    is_column = columns < tl.load(tile + 2)
    matrix = widening + slot.to(tl.int64) * (RANK_MAX * NUM_OUTPUTS) + columns[None, :]
    change = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, rank, DEPTH):
        numbers = start + tl.arange(0, DEPTH)
        narrow = tl.zeros([ROWS, DEPTH], tl.float32)
        # Unrolled, so that all are on their way at once.
        for split in tl.static_range(SPLITS_MAX):
            is_there = numbers < tl.where(split < num_splits, rank, 0)
            narrow += tl.load(
                partials + ((split * num_tokens + places) * NUM_PARTS + part)[:, None] * RANKS + numbers[None, :],
                mask=is_row[:, None] & is_there[None, :],
                other=0.0,
            )
        is_weight = (numbers < rank)[:, None] & is_column[None, :]
        weights = tl.load(matrix + numbers[:, None] * NUM_OUTPUTS, mask=is_weight, other=0.0)
        change = tl.dot(narrow.to(weights.dtype), weights, change, input_precision="ieee")
    own = tl.load(tokens + places, mask=is_row, other=0).to(tl.int64)
    output = outputs + own[:, None] * NUM_OUTPUTS + columns[None, :]
    is_inside = is_row[:, None] & is_column[None, :]
    before = tl.load(output, mask=is_inside, other=0.0)
    tl.store(output, (before.to(tl.float32) + change).to(before.dtype), mask=is_inside)
