"""Skinny matrix products: the linear layers of a decode step, for few and for many rows, beside reading their weights.

Weights are cycled through more memory than the device's cache holds, as a step does.
"""

from functools import partial

import torch
from torch.nn.functional import linear

from benchmarks.gpu_models import LLAMA_8B, QWEN3_06B, config_of
from benchmarks.gpu_rooflines import bound_s
from benchmarks.gpu_rows import Figure, RowSpec
from benchmarks.gpu_setting import CACHE_BYTES, Setting

NUM_ROWS = {LLAMA_8B: (1, 2, 4, 8, 16, 32, 64, 128, 256), QWEN3_06B: (1, 32, 256)}


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    specs = []
    for model, numbers in NUM_ROWS.items():
        for layer, size in _layers(model, setting).items():
            specs += [
                RowSpec(f"{model}.{layer}.m{num_rows}", partial(measure_product, setting, num_rows, *size))
                for num_rows in numbers
            ]
    return specs


def _layers(model: str, setting: Setting) -> dict[str, tuple[int, int]]:
    """Rows and columns of each product of a fused layer, and of the head."""
    config = config_of(model, is_tiny=setting.is_tiny)
    hidden, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    num_heads, num_kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    return {
        "query_key_value": ((num_heads + 2 * num_kv_heads) * size, hidden),
        "attention_output": (hidden, num_heads * size),
        "gate_up": (2 * inner, hidden),
        "mlp_output": (hidden, inner),
        "head": (config["vocab_size"], hidden),
    }


def measure_product(setting: Setting, num_rows: int, num_outputs: int, num_inputs: int) -> Figure:
    one = num_outputs * num_inputs * setting.dtype.itemsize
    num_weights = 2 if setting.is_tiny else max(2, min(64, -(-CACHE_BYTES // one)))
    weights = torch.empty(num_weights, num_outputs, num_inputs, device=setting.device, dtype=setting.dtype)
    weights.normal_(0, 0.02)
    inputs = torch.randn(num_rows, num_inputs, device=setting.device, dtype=setting.dtype)
    timing = setting.device_time([partial(linear, inputs, weight) for weight in weights])
    num_bytes = one + num_rows * (num_inputs + num_outputs) * setting.dtype.itemsize
    best_s = bound_s(setting.limits, num_bytes, 2 * num_rows * num_outputs * num_inputs)
    return Figure(
        num_bytes / timing.seconds / 1e9,
        "GB/s",
        None if best_s is None else num_bytes / best_s / 1e9,
        conditions={"us": round(timing.seconds * 1e6, 1), "weight": [num_outputs, num_inputs]}
        | ({} if timing.is_captured or not setting.is_cuda else {"launched": "by the host"}),
    )
