"""What the machine itself gives: memory bandwidth, matrix products, and all products of a model's layers and no more.

`python machine_limits.py CONFIG` makes random packed weights in the shapes of a checkpoint's config.json and prints a
line; then for each line of stdin, a number of rows, it prints how often in a second these rows go through all of the
layers' products: nothing that multiplies by those weights is faster. Zero rows ask for bandwidth and arithmetic.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypedDict

import torch

_ROWS_HINT = 32
"""The layout's for any number of rows; `runtime/llm/linear.py` says why."""
_READ_BYTES = 2**29
_MATRIX_SIZE = 2048


class Product(NamedTuple):
    num_inputs: int
    num_outputs: int


class Limits(TypedDict):
    read_gb_per_s: float
    matmul_tflops: float


class Ceiling(TypedDict):
    tokens_per_s: float
    """Of all rows together."""


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    with torch.inference_mode():
        weights = [_packed(product) for product in products(config)]
        print(json.dumps({"num_products": len(weights)}), flush=True)
        for line in sys.stdin:
            num_rows = json.loads(line)
            print(json.dumps(measure_ceiling(weights, num_rows) if num_rows else measure_limits()), flush=True)


def products(config: dict[str, Any]) -> Iterator[Product]:
    """Of one step, in their order; those that read the same input are one."""
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    head_size = config.get("head_dim") or hidden // config["num_attention_heads"]
    num_query, num_kv = config["num_attention_heads"] * head_size, config["num_key_value_heads"] * head_size
    for _ in range(config["num_hidden_layers"]):
        yield Product(hidden, num_query + 2 * num_kv)
        yield Product(num_query, hidden)
        yield Product(hidden, 2 * intermediate)
        yield Product(intermediate, hidden)
    yield Product(hidden, config["vocab_size"])


class _Packed(NamedTuple):
    weight: torch.Tensor
    num_inputs: int


def _packed(product: Product) -> _Packed:
    """Each has its own memory, so that no cache holds what a model's would not."""
    weight = torch.empty(product.num_outputs, product.num_inputs, dtype=torch.bfloat16).normal_(0, 0.02)
    return _Packed(torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT), product.num_inputs)


def measure_ceiling(weights: list[_Packed], num_rows: int) -> Ceiling:
    inputs = {each.num_inputs: torch.randn(num_rows, each.num_inputs).bfloat16() for each in weights}

    def step() -> None:
        for weight, num_inputs in weights:
            torch.ops.mkldnn._linear_pointwise(inputs[num_inputs], weight, None, "none", [], "")

    return Ceiling(tokens_per_s=num_rows / median(_durations(step, for_s=1.0)))


def measure_limits() -> Limits:
    """The best of several: what disturbs only takes away."""
    memory = torch.ones(_READ_BYTES // 8, dtype=torch.int64)
    matrix = torch.randn(_MATRIX_SIZE, _MATRIX_SIZE).bfloat16()
    read_s = min(_durations(memory.sum, for_s=0.5))
    matmul_s = min(_durations(lambda: matrix @ matrix, for_s=0.5))
    return Limits(read_gb_per_s=_READ_BYTES / read_s / 1e9, matmul_tflops=2 * _MATRIX_SIZE**3 / matmul_s / 1e12)


def _durations(act: Callable[[], object], *, for_s: float) -> list[float]:
    """At least three, and the first one is not counted."""
    act()
    durations: list[float] = []
    while len(durations) < 3 or sum(durations) < for_s:
        started_at = time.perf_counter()
        act()
        durations.append(time.perf_counter() - started_at)
    return durations


if __name__ == "__main__":
    main()
