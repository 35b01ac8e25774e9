"""The attention back end that models get on this device, alone: decodes by the bytes of keys and values that they read,
prompts by their arithmetic; beside torch's own attention for whole prompts."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu_models import BLOCK_SIZE, LLAMA_8B, config_of
from benchmarks.gpu_rows import Figure, RowSpec, Unavailable
from benchmarks.gpu_setting import CACHE_BYTES, Setting, Timing
from models.info import AttentionInfo
from runtime.llm.attention_choice import choose_attention
from runtime.llm.attention_gather import Span
from runtime.llm.forward_context import Scoring
from runtime.settings import AttentionBackend

DECODES = ((1, 1024), (1, 8192), (1, 32768), (8, 1024), (32, 1024), (32, 8192), (128, 1024), (256, 1024), (256, 4096))
"""Requests, and tokens of each."""
PROMPTS = (512, 1024, 4096, 8192)
_LAYERS_MAX = 32
_TINY_TOKENS = 64
"""Of each request at most, in a dry run."""


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    specs = [
        RowSpec(f"decode.b{num_requests}.{num_tokens}", partial(measure_decode, setting, num_requests, num_tokens))
        for num_requests, num_tokens in DECODES
    ]
    specs.append(RowSpec("decode.b32.1024.gather", partial(measure_decode, setting, 32, 1024, "gather")))
    for num_tokens in PROMPTS:
        specs.append(RowSpec(f"prefill.{num_tokens}", partial(measure_prefill, setting, num_tokens)))
        specs.append(RowSpec(f"prefill.{num_tokens}.torch", partial(measure_torch_prefill, setting, num_tokens)))
    return specs


def measure_decode(setting: Setting, num_requests: int, num_tokens: int, backend: AttentionBackend = "auto") -> Figure:
    num_tokens = min(num_tokens, _TINY_TOKENS) if setting.is_tiny else num_tokens
    info = _shape_of_layers(setting, 1)
    read = num_requests * num_tokens * info.num_kv_heads * 2 * info.head_size * setting.dtype.itemsize
    num_layers = 2 if setting.is_tiny else max(2, min(_LAYERS_MAX, -(-CACHE_BYTES // read)))
    needed = (num_layers + 1) * read + 2**30
    if needed > setting.free_bytes():
        raise Unavailable(f"needs {needed / 2**30:.0f} GiB of device memory")
    blocks_each = -(-num_tokens // BLOCK_SIZE)
    # Blocks of a request are scattered, as they are after a while.
    block_ids = (torch.randperm(num_requests * blocks_each) + 1).view(num_requests, -1).tolist()
    spans = [Span(index, 1, num_tokens - 1, own) for index, own in enumerate(block_ids)]
    timing, name = _attend(setting, spans, num_requests * blocks_each + 1, num_layers, backend)
    limits = setting.limits
    return Figure(
        read / timing.seconds / 1e9,
        "GB/s",
        None if limits is None else limits.bytes_per_s / 1e9,
        conditions=_conditions(timing) | {"by": name},
    )


def measure_prefill(setting: Setting, num_tokens: int) -> Figure:
    num_tokens = min(num_tokens, _TINY_TOKENS) if setting.is_tiny else num_tokens
    num_blocks = -(-num_tokens // BLOCK_SIZE)
    spans = [Span(0, num_tokens, 0, list(range(1, num_blocks + 1)))]
    timing, name = _attend(setting, spans, num_blocks + 1, 2, "auto")
    figure = _of_prompt(setting, timing, num_tokens)
    return figure._replace(conditions=figure.conditions | {"by": name})


def measure_torch_prefill(setting: Setting, num_tokens: int) -> Figure:
    """All heads have keys of their own, so that every one of torch's kernels may be taken."""
    num_tokens = min(num_tokens, _TINY_TOKENS) if setting.is_tiny else num_tokens
    shape = _shape_of_layers(setting, 1)
    query, key, value = torch.randn(
        3, 1, shape.num_heads, num_tokens, shape.head_size, device=setting.device, dtype=setting.dtype
    )
    timing = setting.device_time([partial(scaled_dot_product_attention, query, key, value, is_causal=True)] * 2)
    return _of_prompt(setting, timing, num_tokens)


def _attend(
    setting: Setting, spans: list[Span], num_blocks: int, num_layers: int, backend: AttentionBackend
) -> tuple[Timing, str]:
    """One call for each layer, which together are more than a cache holds; and who attended."""
    shape = _shape_of_layers(setting, num_layers)
    attention = choose_attention(
        shape,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        dtype=setting.dtype,
        device=setting.device,
        backend=backend,
    )
    for cache in attention.caches:
        cache.normal_()
    num_tokens = sum(span.num_tokens for span in spans)
    query = torch.randn(num_tokens, shape.num_heads, shape.head_size, device=setting.device, dtype=setting.dtype)
    key, value = torch.randn(
        2, num_tokens, shape.num_kv_heads, shape.head_size, device=setting.device, dtype=setting.dtype
    )
    with torch.inference_mode():
        step = attention.prepare(spans)
    scoring = Scoring(shape.head_size**-0.5)
    calls: list[Callable[[], object]] = [
        partial(step.attend, layer, query, key, value, scoring) for layer in range(num_layers)
    ]
    return setting.device_time(calls), type(step).__name__


def _of_prompt(setting: Setting, timing: Timing, num_tokens: int) -> Figure:
    shape = _shape_of_layers(setting, 1)
    num_flops = 2 * shape.num_heads * (shape.head_size + shape.value_head_size) * num_tokens * (num_tokens + 1) // 2
    limits = setting.limits
    return Figure(
        num_flops / timing.seconds / 1e12,
        "TFLOP/s",
        None if limits is None else limits.flops / 1e12,
        conditions=_conditions(timing),
    )


def _conditions(timing: Timing) -> dict[str, object]:
    return {"us": round(timing.seconds * 1e6, 1)} | ({} if timing.is_captured else {"launched": "by the host"})


def _shape_of_layers(setting: Setting, num_layers: int) -> AttentionInfo:
    """Of the larger model."""
    config = config_of(LLAMA_8B, is_tiny=setting.is_tiny)
    return AttentionInfo(
        num_layers=num_layers,
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        value_head_size=config["head_dim"],
    )
