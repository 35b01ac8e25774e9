"""What stands for flash-attn 3's paged attention where there is no such GPU: the same arguments, the same result.

By its documentation at https://github.com/Dao-AILab/flash-attention (hopper/flash_attn_interface.py): masks are aligned
to the bottom right, a window counts the keys to the left and right of a query's own.
"""

import math

import torch


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    *,
    cache_seqlens: torch.Tensor,
    page_table: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    max_seqlen_q: int,
    softmax_scale: float,
    causal: bool,
    window_size: tuple[int, int],
    softcap: float,
    num_splits: int,
) -> torch.Tensor:
    """`q` [tokens, heads, size], `k_cache` and `v_cache` [pages, page size, KV heads, size]."""
    assert causal
    assert num_splits >= 0
    for table in (cache_seqlens, page_table, cu_seqlens_q):
        assert table.dtype is torch.int32
        assert table.is_contiguous()
    for tensor in (q, k_cache, v_cache):
        assert tensor.stride(-1) == 1
    output = torch.empty_like(q)
    for request, num_keys in enumerate(cache_seqlens.tolist()):
        first, stop = cu_seqlens_q[request : request + 2].tolist()
        assert stop - first <= max_seqlen_q
        pages = page_table[request, : math.ceil(num_keys / k_cache.shape[1])].long()
        keys, values = (cache[pages].flatten(0, 1)[:num_keys] for cache in (k_cache, v_cache))
        is_seen = _seen(stop - first, num_keys, window_size)
        output[first:stop] = _attend(q[first:stop], keys, values, is_seen, softmax_scale, softcap)
    return output


def _seen(num_queries: int, num_keys: int, window_size: tuple[int, int]) -> torch.Tensor:
    left, right = window_size
    own = torch.arange(num_queries)[:, None] + num_keys - num_queries
    keys = torch.arange(num_keys)
    is_seen = keys <= own
    if left >= 0:
        is_seen &= keys >= own - left
    if right >= 0:
        is_seen &= keys <= own + right
    return is_seen


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    is_seen: torch.Tensor,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    sharing = query.shape[1] // keys.shape[1]
    keys, values = (tensor.double().repeat_interleave(sharing, dim=1) for tensor in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", query.double(), keys) * scale
    if softcap > 0:
        scores = softcap * (scores / softcap).tanh()
    weights = scores.masked_fill(~is_seen.to(scores.device), -torch.inf).softmax(dim=-1)
    return torch.einsum("hqk,khd->qhd", weights, values).to(query.dtype)
