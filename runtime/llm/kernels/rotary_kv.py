"""Rotation and the KV's way into the cache as one Triton kernel: queries are turned in place, keys on their way, and
values go with them.

It gives what `rotary.rotate` and `kv_write.write_kv` give one after the other, with the same roundings, in one launch
for each layer and without reading what the first has written. Imports triton, so only what runs on CUDA may import it.
"""

import torch
import triton
import triton.language as tl

from models.fp8 import FP8_MAX
from runtime.llm.fp8 import SMALLEST_SCALE
from runtime.llm.kernels.kv_write import narrowed, scale_of
from runtime.llm.kernels.rotary import HEADS_AT_ONCE, assert_readable, turned
from runtime.llm.patches.operations import HeadNorms, Rotation


def rotate_into_cache(
    heads: torch.Tensor,
    rotation: Rotation,
    norms: HeadNorms | None,
    cache: torch.Tensor,
    slots: torch.Tensor,
    scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """The turned queries of `heads` [tokens, query, key and value heads, size], in place; `cache` and `scales` as in
    `write_kv`. Nothing is written of keys and values of a token whose slot is negative."""
    cosine, signed_sine = rotation
    num_tokens, num_heads, size = heads.shape
    num_kv_heads = cache.shape[1]
    num_query_heads = num_heads - 2 * num_kv_heads
    assert cache.shape[2] == 2 * size, "keys and values are of one size"
    assert_readable(heads, rotation)
    num_at_once = min(HEADS_AT_ONCE, triton.next_power_of_2(num_heads))
    _rotate_into_cache_kernel[(num_tokens, triton.cdiv(num_heads, num_at_once))](
        heads,
        cosine,
        signed_sine,
        cosine if norms is None else norms.query.weight,
        cosine if norms is None else norms.key.weight,
        cache,
        slots if scales is None else scales,  # never read where there are none
        slots,
        heads.stride(0),
        cosine.stride(0),
        0.0 if norms is None else norms.query.epsilon,
        0.0 if norms is None else norms.key.epsilon,
        NUM_HEADS=num_heads,
        NUM_QUERY_HEADS=num_query_heads,
        NUM_KV_HEADS=num_kv_heads,
        HALF=size // 2,
        BLOCK_HALF=triton.next_power_of_2(size // 2),
        HEADS_AT_ONCE=num_at_once,
        HAS_NORMS=norms is not None,
        IS_FP8=scales is not None,
        FP8_MAX=FP8_MAX,
        SMALLEST_SCALE=SMALLEST_SCALE,
        enable_fp_fusion=False,
    )
    return heads[:, :num_query_heads]


@triton.jit
def _rotate_into_cache_kernel(
    heads: tl.tensor,
    cosine: tl.tensor,
    signed_sine: tl.tensor,
    query_weight: tl.tensor,
    key_weight: tl.tensor,
    cache: tl.tensor,
    scales: tl.tensor,
    slots: tl.tensor,
    token_stride: tl.tensor,
    table_stride: tl.tensor,
    query_epsilon: tl.tensor,
    key_epsilon: tl.tensor,
    NUM_HEADS: tl.constexpr,
    NUM_QUERY_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    HEADS_AT_ONCE: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    IS_FP8: tl.constexpr,
    FP8_MAX: tl.constexpr,
    SMALLEST_SCALE: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    head = tl.program_id(1) * HEADS_AT_ONCE + tl.arange(0, HEADS_AT_ONCE)[:, None]
    column = tl.arange(0, BLOCK_HALF)[None, :]
    is_inside = (head < NUM_HEADS) & (column < HALF)
    is_query = head < NUM_QUERY_HEADS
    first = heads + token * token_stride + head * (2 * HALF) + column
    low = tl.load(first, mask=is_inside, other=0.0)
    high = tl.load(first + HALF, mask=is_inside, other=0.0)
    row = token * table_stride
    turned_low, turned_high = turned(
        low, high, is_query, cosine + row, signed_sine + row, query_weight, key_weight, query_epsilon, key_epsilon,
        HALF, BLOCK_HALF, HAS_NORMS,
    )  # fmt: skip
    tl.store(first, turned_low, mask=is_inside & is_query)
    tl.store(first + HALF, turned_high, mask=is_inside & is_query)
    part = (head - NUM_QUERY_HEADS) // NUM_KV_HEADS  # 0 is a key, 1 a value
    low = tl.where(part == 1, low, turned_low)
    high = tl.where(part == 1, high, turned_high)
    place = slot * NUM_KV_HEADS + (head - NUM_QUERY_HEADS) % NUM_KV_HEADS
    is_written = (head >= NUM_QUERY_HEADS) & (place >= 0)
    if IS_FP8:
        wide_low = low.to(tl.float32)
        wide_high = high.to(tl.float32)
        largest = tl.maximum(tl.max(tl.abs(wide_low), 1), tl.max(tl.abs(wide_high), 1))
        scale = scale_of(largest, FP8_MAX, SMALLEST_SCALE)[:, None]
        tl.store(scales + place * 2 + part, scale, mask=is_written & (head < NUM_HEADS))
        low = narrowed(wide_low, scale, FP8_MAX)
        high = narrowed(wide_high, scale, FP8_MAX)
    target = cache + place * (4 * HALF) + part * (2 * HALF) + column
    tl.store(target, low, mask=is_inside & is_written)
    tl.store(target + HALF, high, mask=is_inside & is_written)
