"""What a device could do at best, from its own bandwidth and arithmetic and from nothing else. Pure formulas.

A step reads every weight but the embedding once, and the keys and values of every token that it attends to; it
multiplies each token by each of those weights. The slower of the two bounds it.
"""

from typing import NamedTuple

from models.info import ModelInfo
from models.sizing import DTYPE_BYTES, kv_bytes_per_token


class Limits(NamedTuple):
    """Of the device, as measured on it."""

    bytes_per_s: float
    """The better of reading alone, and of reading and writing."""
    flops: float
    """Of products of large matrices in the dtype that models are served in."""
    host_bytes_per_s: float
    """From page-locked memory of the host."""


def bound_s(limits: Limits | None, num_bytes: float, num_flops: float = 0.0) -> float | None:
    """Seconds; None where the limits are not known."""
    return None if limits is None else max(num_bytes / limits.bytes_per_s, num_flops / limits.flops)


def num_multiplied(info: ModelInfo) -> int:
    """Parameters that every token is multiplied by: all but an embedding that is no head at the same time."""
    return info.num_parameters - (0 if info.tied_embeddings else info.vocab_size * info.hidden_size)


def decode_s(limits: Limits | None, info: ModelInfo, dtype: str, num_requests: int, num_tokens: int) -> float | None:
    """One step in which each of the requests, so many tokens long, gets one more."""
    weights = num_multiplied(info) * DTYPE_BYTES[dtype]
    kv = num_requests * num_tokens * kv_bytes_per_token(info, dtype)
    num_flops = 2 * num_multiplied(info) * num_requests + num_requests * attention_flops(info, 1, num_tokens)
    return bound_s(limits, weights + kv, num_flops)


def prefill_s(limits: Limits | None, info: ModelInfo, dtype: str, num_requests: int, num_tokens: int) -> float | None:
    """Prompts of so many tokens each; the head is computed once for each."""
    head = info.vocab_size * info.hidden_size
    body = num_multiplied(info) - head
    num_flops = 2 * num_requests * (body * num_tokens + head) + num_requests * prompt_attention_flops(info, num_tokens)
    return bound_s(limits, num_multiplied(info) * DTYPE_BYTES[dtype], num_flops)


def attention_flops(info: ModelInfo, num_queries: int, num_keys: int) -> int:
    """Of all layers; every query sees every key."""
    shape = info.attention
    return 2 * shape.num_layers * shape.num_heads * (shape.head_size + shape.value_head_size) * num_queries * num_keys


def prompt_attention_flops(info: ModelInfo, num_tokens: int) -> int:
    """A token sees those before it and itself: half of all pairs."""
    return attention_flops(info, num_tokens, num_tokens + 1) // 2
