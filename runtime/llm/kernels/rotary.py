"""Norms of heads and rotary embedding as one Triton kernel, in place: queries and keys as they come from one product.

Cosines and sines are a table with a row for each token, as transformers computes it once in a step. Its reference is
`layer_operations.rotate`, with the same roundings. Imports triton, so only what runs on CUDA may import it.
"""

import torch
import triton
import triton.language as tl

from runtime.llm.patches.operations import HeadNorms, Rotation

HEADS_AT_ONCE = 8
"""Of one program."""


def rotate(
    heads: torch.Tensor, rotation: Rotation, num_query_heads: int, norms: HeadNorms | None = None
) -> torch.Tensor:
    cosine, signed_sine = rotation
    num_tokens, num_heads, size = heads.shape
    assert_readable(heads, rotation)
    if not num_tokens:
        return heads
    num_at_once = min(HEADS_AT_ONCE, triton.next_power_of_2(num_heads))
    _rotate_kernel[(num_tokens, triton.cdiv(num_heads, num_at_once))](
        heads,
        cosine,
        signed_sine,
        cosine if norms is None else norms.query.weight,
        cosine if norms is None else norms.key.weight,
        heads.stride(0),
        cosine.stride(0),
        0.0 if norms is None else norms.query.epsilon,
        0.0 if norms is None else norms.key.epsilon,
        NUM_HEADS=num_heads,
        NUM_QUERY_HEADS=num_query_heads,
        HALF=size // 2,
        BLOCK_HALF=triton.next_power_of_2(size // 2),
        HEADS_AT_ONCE=num_at_once,
        HAS_NORMS=norms is not None,
        enable_fp_fusion=False,
    )
    return heads


def assert_readable(heads: torch.Tensor, rotation: Rotation) -> None:
    cosine, signed_sine = rotation
    size = heads.shape[2]
    assert heads.stride()[1:] == (size, 1), "heads of a token follow one another"
    assert cosine.stride() == signed_sine.stride()
    assert cosine.stride(-1) == 1
    assert cosine.shape[-1] == size


@triton.jit
def _rotate_kernel(
    heads: tl.tensor,
    cosine: tl.tensor,
    signed_sine: tl.tensor,
    query_weight: tl.tensor,
    key_weight: tl.tensor,
    token_stride: tl.tensor,
    table_stride: tl.tensor,
    query_epsilon: tl.tensor,
    key_epsilon: tl.tensor,
    NUM_HEADS: tl.constexpr,
    NUM_QUERY_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    HEADS_AT_ONCE: tl.constexpr,
    HAS_NORMS: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS_AT_ONCE + tl.arange(0, HEADS_AT_ONCE)[:, None]
    column = tl.arange(0, BLOCK_HALF)[None, :]
    is_inside = (head < NUM_HEADS) & (column < HALF)
    first = heads + token * token_stride + head * (2 * HALF) + column
    low = tl.load(first, mask=is_inside, other=0.0)
    high = tl.load(first + HALF, mask=is_inside, other=0.0)
    row = token * table_stride
    low, high = turned(
        low, high, head < NUM_QUERY_HEADS, cosine + row, signed_sine + row, query_weight, key_weight, query_epsilon,
        key_epsilon, HALF, BLOCK_HALF, HAS_NORMS,
    )  # fmt: skip
    tl.store(first, low, mask=is_inside)
    tl.store(first + HALF, high, mask=is_inside)


@triton.jit
def turned(
    low: tl.tensor,
    high: tl.tensor,
    is_query: tl.tensor,
    cosine: tl.tensor,
    signed_sine: tl.tensor,
    query_weight: tl.tensor,
    key_weight: tl.tensor,
    query_epsilon: tl.tensor,
    key_epsilon: tl.tensor,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    HAS_NORMS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    dtype = low.dtype
    column = tl.arange(0, BLOCK_HALF)[None, :]
    is_column = column < HALF
    low = low.to(tl.float32)
    high = high.to(tl.float32)
    if HAS_NORMS:
        mean_square = (tl.sum(low * low, axis=1) + tl.sum(high * high, axis=1)) / (2 * HALF)
        scale = tl.math.rsqrt(mean_square[:, None] + tl.where(is_query, query_epsilon, key_epsilon))
        low = _scaled(low, scale, query_weight + column, key_weight + column, is_query, is_column, dtype)
        high = _scaled(
            high, scale, query_weight + HALF + column, key_weight + HALF + column, is_query, is_column, dtype
        )
    low_cosine = tl.load(cosine + column, mask=is_column, other=0.0).to(tl.float32)
    high_cosine = tl.load(cosine + HALF + column, mask=is_column, other=0.0).to(tl.float32)
    low_sine = tl.load(signed_sine + column, mask=is_column, other=0.0).to(tl.float32)
    high_sine = tl.load(signed_sine + HALF + column, mask=is_column, other=0.0).to(tl.float32)
    turned_low = (low * low_cosine).to(dtype).to(tl.float32) + (high * low_sine).to(dtype).to(tl.float32)
    turned_high = (high * high_cosine).to(dtype).to(tl.float32) + (low * high_sine).to(dtype).to(tl.float32)
    return turned_low.to(dtype), turned_high.to(dtype)


@triton.jit
def _scaled(
    values: tl.tensor,
    scale: tl.tensor,
    query_weight: tl.tensor,
    key_weight: tl.tensor,
    is_query: tl.tensor,
    is_column: tl.tensor,
    dtype: tl.constexpr,
) -> tl.tensor:
    of_query = tl.load(query_weight, mask=is_column, other=0.0).to(tl.float32)
    of_key = tl.load(key_weight, mask=is_column, other=0.0).to(tl.float32)
    normed = (values * scale).to(dtype).to(tl.float32)
    return (normed * tl.where(is_query, of_query, of_key)).to(dtype).to(tl.float32)
