"""What the sampler does with whole rows of the vocabulary on CUDA, as Triton kernels that sort nothing.

They find the very thresholds and tokens of the plain rules (`sampling/adjustments.py`, `truncation.py`, `draw.py`):
weights and the sums of segments come from torch, all that is added here is added in float64, and tokens that tie with
the last one kept are kept. Imports triton, so only what runs on CUDA may import it.
"""

import torch
import triton
import triton.language as tl

_BLOCK = 2048
_MASK_BLOCK = 4096
_NUM_CUTS = 4
_NUM_WARPS = 16


def forbid(logits: torch.Tensor, indices: torch.Tensor, masks: torch.Tensor) -> None:
    """Set to -inf what the bits of each of these rows' masks leave out; masks are as long as the vocabulary."""
    num_rows, num_bytes = masks.shape
    vocab_size = logits.shape[1]
    assert logits.is_contiguous()
    assert num_bytes * 8 >= vocab_size
    _forbid_kernel[(num_rows, triton.cdiv(vocab_size, _MASK_BLOCK))](
        logits,
        masks,
        indices,
        num_bytes,
        VOCAB_SIZE=vocab_size,
        BLOCK=_MASK_BLOCK,
        enable_fp_fusion=False,
    )


def truncate(weights: torch.Tensor, limits: torch.Tensor) -> None:
    """Set to 0 what top_k, then top_p, and min_p leave out. Weights are relative to the row's best, which is 1.

    `limits` [rows, 3]: top_k, 0 for none; top_p, above 1 for none; min_p.
    """
    num_rows, vocab_size = weights.shape
    assert weights.is_contiguous()
    assert weights.dtype is torch.float32
    assert limits.is_contiguous()
    assert limits.dtype is torch.float32
    _truncate_kernel[(num_rows,)](
        weights,
        weights.view(torch.int32),
        torch.empty_like(weights, dtype=torch.int32),
        limits,
        VOCAB_SIZE=vocab_size,
        BLOCK=_BLOCK,
        NUM_CUTS=_NUM_CUTS,
        num_warps=_NUM_WARPS,
        enable_fp_fusion=False,
    )


def search(segments: torch.Tensor, segment_sums: torch.Tensor, uniform: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """The first token of each row at which the running sum of its weights exceeds its share `uniform` of the total.

    `segments` [rows, segments, entries] are the weights, padded with 0; `segment_sums` what each adds up to.
    """
    num_rows, num_segments, size = segments.shape
    token_ids = torch.empty(num_rows, dtype=torch.int64, device=segments.device)
    assert segments.is_contiguous()
    assert segment_sums.is_contiguous()
    assert size == triton.next_power_of_2(size)
    _search_kernel[(num_rows,)](
        segments,
        segment_sums,
        uniform,
        token_ids,
        VOCAB_SIZE=vocab_size,
        NUM_SEGMENTS=num_segments,
        SEGMENTS_BLOCK=triton.next_power_of_2(num_segments),
        SIZE=size,
        enable_fp_fusion=False,
    )
    return token_ids


@triton.jit(do_not_specialize=["num_bytes"])
def _forbid_kernel(
    logits: tl.tensor,
    masks: tl.tensor,
    indices: tl.tensor,
    num_bytes: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    tokens = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_token = tokens < VOCAB_SIZE
    some = tl.load(masks + tl.program_id(0) * num_bytes + tokens // 8, mask=is_token, other=255).to(tl.int32)
    is_forbidden = is_token & (((some >> (tokens % 8)) & 1) == 0)
    place = logits + tl.load(indices + tl.program_id(0)) * VOCAB_SIZE + tokens
    values = tl.load(place, mask=is_forbidden, other=0.0)
    # What is not a number stays so: the row is broken, and a mask must not make it look sound.
    tl.store(place, tl.where(values == values, float("-inf"), values), mask=is_forbidden)


@triton.jit
def _truncate_kernel(
    weights: tl.tensor,
    weight_bits: tl.tensor,
    candidates: tl.tensor,
    limits: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    NUM_CUTS: tl.constexpr,
) -> None:
    """One program for a row. A weight's bits, read as an integer, order weights as their values do."""
    row = tl.program_id(0).to(tl.int64)
    weights += row * VOCAB_SIZE
    weight_bits += row * VOCAB_SIZE
    candidates += row * VOCAB_SIZE
    top_k = tl.load(limits + row * 3).to(tl.int32)
    top_p = tl.load(limits + row * 3 + 1).to(tl.float64)
    min_p = tl.load(limits + row * 3 + 2)
    threshold = 0
    if (top_k > 0) | (top_p <= 1):
        cut, total = _coarse_cut(weight_bits, top_k, top_p, VOCAB_SIZE, BLOCK, NUM_CUTS)
        length = _collect(weight_bits, candidates, cut, VOCAB_SIZE, BLOCK)
        tl.debug_barrier()  # threads read what others have collected
        threshold = cut
        if top_k > 0:
            threshold = _kth_best(candidates, length, cut, top_k, BLOCK)
            total = _mass_above(candidates, length, threshold - 1, BLOCK)
        if top_p <= 1:
            threshold = _nucleus(candidates, length, threshold, top_p * total, BLOCK)
    for start in range(0, VOCAB_SIZE, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        is_column = columns < VOCAB_SIZE
        bits = tl.load(weight_bits + columns, mask=is_column, other=0)
        values = bits.to(tl.float32, bitcast=True)
        # Multiplied, so that what is not a number stays so.
        kept = values * tl.where((bits >= threshold) & (values >= min_p), 1.0, 0.0)
        tl.store(weights + columns, kept, mask=is_column)


@triton.jit
def _coarse_cut(
    weight_bits: tl.tensor,
    top_k: tl.tensor,
    top_p: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    NUM_CUTS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """In one pass, the highest of a few powers of two at or above which the threshold is sure to lie; 0 is the last.

    Beside it, what all weights add up to.
    """
    number = tl.arange(0, NUM_CUTS)
    cuts = tl.where(number == NUM_CUTS - 1, 0, (119 - 12 * number) << 23)  # 2**-8, 2**-20, 2**-32, 0
    counts = tl.zeros([NUM_CUTS, BLOCK], tl.int32)
    masses = tl.zeros([NUM_CUTS, BLOCK], tl.float64)
    for start in range(0, VOCAB_SIZE, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        bits = tl.load(weight_bits + columns, mask=columns < VOCAB_SIZE, other=-1)
        is_over = bits[None, :] >= cuts[:, None]
        counts += is_over.to(tl.int32)
        masses += tl.where(is_over, bits.to(tl.float32, bitcast=True)[None, :], 0.0).to(tl.float64)
    mass = tl.sum(masses, axis=1)
    total = tl.sum(tl.where(number == NUM_CUTS - 1, mass, 0.0), axis=0)
    # With top_k the nucleus is one of what top_k leaves.
    is_enough = ((top_k > 0) & (tl.sum(counts, axis=1) >= top_k)) | ((top_k == 0) & (mass >= top_p * total))
    return tl.max(tl.where(is_enough, cuts, 0), axis=0), total


@triton.jit
def _collect(
    weight_bits: tl.tensor, candidates: tl.tensor, cut: tl.tensor, VOCAB_SIZE: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """Write the bits of all weights from `cut` on side by side, and return how many they are."""
    length = 0
    for start in range(0, VOCAB_SIZE, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        bits = tl.load(weight_bits + columns, mask=columns < VOCAB_SIZE, other=-1)
        is_over = (bits >= cut).to(tl.int32)
        tl.store(candidates + length + tl.cumsum(is_over, axis=0) - is_over, bits, mask=is_over != 0)
        length += tl.sum(is_over, axis=0)
    return length


@triton.jit
def _kth_best(
    candidates: tl.tensor, length: tl.tensor, cut: tl.tensor, top_k: tl.tensor, BLOCK: tl.constexpr
) -> tl.tensor:
    """Bits that exactly `top_k` weights reach, or more of them where they tie."""
    low = cut
    num_over = length
    high = 0x3F800001  # above 1.0, which no weight exceeds
    while (high - low > 1) & (num_over != top_k):
        middle = low + (high - low) // 2
        counts = tl.zeros([BLOCK], tl.int32)
        for start in range(0, length, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            counts += (tl.load(candidates + columns, mask=columns < length, other=-1) >= middle).to(tl.int32)
        count = tl.sum(counts, axis=0)
        is_reached = count >= top_k
        low = tl.where(is_reached, middle, low)
        num_over = tl.where(is_reached, count, num_over)
        high = tl.where(is_reached, high, middle)
    return low


@triton.jit
def _nucleus(
    candidates: tl.tensor, length: tl.tensor, lowest: tl.tensor, target: tl.tensor, BLOCK: tl.constexpr
) -> tl.tensor:
    """Bits of the least weight from `lowest` on for which those above it do not add up to the target."""
    low = lowest - 1
    high = 0x3F800000  # 1.0: the best stays, whatever top_p is
    while high - low > 1:
        middle = low + (high - low) // 2
        is_within = _mass_above(candidates, length, middle, BLOCK) < target
        high = tl.where(is_within, middle, high)
        low = tl.where(is_within, low, middle)
    return high


@triton.jit
def _mass_above(candidates: tl.tensor, length: tl.tensor, bits: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    masses = tl.zeros([BLOCK], tl.float64)
    for start in range(0, length, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        some = tl.load(candidates + columns, mask=columns < length, other=0)
        masses += tl.where(some > bits, some.to(tl.float32, bitcast=True), 0.0).to(tl.float64)
    return tl.sum(masses, axis=0)


@triton.jit
def _search_kernel(
    segments: tl.tensor,
    segment_sums: tl.tensor,
    uniform: tl.tensor,
    token_ids: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    NUM_SEGMENTS: tl.constexpr,
    SEGMENTS_BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    numbers = tl.arange(0, SEGMENTS_BLOCK)
    is_segment = numbers < NUM_SEGMENTS
    sums = tl.load(segment_sums + row * NUM_SEGMENTS + numbers, mask=is_segment, other=0.0)
    running = tl.cumsum(sums.to(tl.float64), axis=0)
    last = tl.sum(tl.where(numbers == NUM_SEGMENTS - 1, running, 0.0), axis=0)
    target = _below(tl.load(uniform + row) * last, last)
    segment = tl.minimum(_first_above(running, target, is_segment), NUM_SEGMENTS - 1)
    rest = target - tl.sum(tl.where(numbers == segment - 1, running, 0.0), axis=0)
    entries = tl.arange(0, SIZE)
    chosen = tl.load(segments + (row * NUM_SEGMENTS + segment) * SIZE + entries)
    running = tl.cumsum(chosen.to(tl.float64), axis=0)
    last = tl.sum(tl.where(entries == SIZE - 1, running, 0.0), axis=0)
    offset = tl.minimum(_first_above(running, _below(rest, last), entries < SIZE), SIZE - 1)
    tl.store(token_ids + row, tl.minimum(segment * SIZE + offset, VOCAB_SIZE - 1).to(tl.int64))


@triton.jit
def _first_above(running: tl.tensor, target: tl.tensor, is_entry: tl.tensor) -> tl.tensor:
    """How many entries do not exceed the target; what is not a number exceeds nothing."""
    return tl.sum((is_entry & ~(running > target)).to(tl.int32), axis=0)


@triton.jit
def _below(target: tl.tensor, last: tl.tensor) -> tl.tensor:
    """Not past the end, where only padding or tokens of weight 0 are."""
    before = (last.to(tl.int64, bitcast=True) - 1).to(tl.float64, bitcast=True)
    before = tl.where(last > 0, before, last)
    return tl.where(target < before, target, before)
