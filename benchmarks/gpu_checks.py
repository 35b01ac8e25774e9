"""Every kernel against its reference, on the device at hand: the largest error beside what is tolerated.

A kernel's module that has no check here is a row that fails. On a CPU, Triton interprets the kernels, at small sizes.
"""

import os
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.gpu_checks_of_products import check_experts, check_lora
from benchmarks.gpu_rows import Figure, RowSpec, Unavailable
from benchmarks.gpu_sampling import sampled_token_ids
from benchmarks.gpu_setting import Setting
from runtime.llm import kernels
from runtime.llm.fp8 import has_fp8
from runtime.llm.patches import operations
from runtime.llm.patches.operations import HeadNorms, Scale
from runtime.llm.sampler import processed_probabilities
from runtime.llm.sampling.adjustments import adjust
from runtime.llm.sampling.rows import SampledRow
from runtime.submission import SamplingParams

_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
"""Relative to the largest number, or absolute where that is below 1. bfloat16 is rounded more than once; the
interpreter cuts it off where hardware rounds it."""


class Compared(NamedTuple):
    error: float
    tolerance: float


Check = Callable[[Setting, torch.dtype], Compared]


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    found = sorted(module.name for module in pkgutil.iter_modules(kernels.__path__))
    specs = []
    for module in found:
        checks = CHECKS.get(module)
        if checks is None:
            specs.append(RowSpec(module, lambda: Figure(float("inf"), "no check", is_passed=False)))
            continue
        for name, check in checks.items():
            dtypes = [None] if module == "sampling" else list(_TOLERANCES)
            specs += [_spec(setting, module, name, check, dtype) for dtype in dtypes]
    return specs


def _spec(setting: Setting, module: str, name: str, check: Check, dtype: torch.dtype | None) -> RowSpec:
    def measure() -> Figure:
        _prepare_triton(setting)
        torch.manual_seed(0)
        with torch.inference_mode():
            compared = check(setting, dtype or torch.float32)
        is_passed = compared.error <= compared.tolerance
        return Figure(compared.error, "error", is_passed=is_passed, conditions={"tolerance": compared.tolerance})

    return RowSpec(f"{module}.{name}" + (f".{dtype}".replace("torch.", "") if dtype else ""), measure)


def _prepare_triton(setting: Setting) -> None:
    import triton  # noqa: F401  # where it is missing, that is what the row says

    if not setting.is_cuda:
        if os.environ.get("TRITON_INTERPRET") != "1":
            raise Unavailable("needs CUDA, or TRITON_INTERPRET=1")
        import tests.fakes.triton_device  # noqa: F401  # mends the interpreter


def _gate(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels.glu import gate

    num_tokens, width = (3, 1030) if setting.is_tiny else (67, 14336)
    gate_up = (torch.randn(1, num_tokens, 2 * width, device=setting.device) * 4).to(dtype)
    return _compare([gate(gate_up, "silu")], [operations.gate(gate_up, "silu")], dtype)


def _gelu(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels.glu import gate

    gate_up = (torch.randn(1, 3, 2 * 515, device=setting.device) * 4).to(dtype)
    found = [gate(gate_up, "gelu"), gate(gate_up, "gelu_tanh")]
    return _compare(found, [operations.gate(gate_up, "gelu"), operations.gate(gate_up, "gelu_tanh")], dtype)


def _norm(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels.norm import add_norm

    num_tokens, width = (3, 129) if setting.is_tiny else (67, 4096)
    hidden, addend = torch.randn(2, 1, num_tokens, width, device=setting.device).to(dtype)
    found: list[torch.Tensor] = []
    expected: list[torch.Tensor] = []
    weight, bias = torch.randn(2, width, device=setting.device).to(dtype)
    for scale in (
        Scale(weight, 1e-5),
        Scale(weight, 1e-5, is_shifted=True),
        Scale(weight, 1e-5, is_centred=True, bias=bias),
    ):
        found += add_norm(hidden, addend.clone(), scale) + add_norm(hidden, None, scale)
        expected += operations.add_norm(hidden, addend.clone(), scale)
        expected += operations.add_norm(hidden, None, scale)
    return _compare(found, expected, dtype)


def _rotate(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels.rotary import rotate

    num_tokens, size, num_heads, num_query_heads = (3, 16, 6, 4) if setting.is_tiny else (67, 128, 40, 32)
    heads = torch.randn(num_tokens, num_heads, size, device=setting.device).to(dtype)
    angles = torch.rand(num_tokens, 1, size, device=setting.device) * 6
    rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
    weights = torch.randn(2, size, device=setting.device).to(dtype)
    found, expected = [], []
    for norms in (None, HeadNorms(Scale(weights[0], 1e-6), Scale(weights[1], 1e-6))):
        found.append(rotate(heads.clone(), rotation, num_query_heads, norms))
        expected.append(operations.rotate(heads.clone(), rotation, num_query_heads, norms))
    return _compare(found, expected, dtype)


def _write(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels.kv_write import write_kv

    num_tokens, num_slots, num_heads, size = (5, 40, 2, 16) if setting.is_tiny else (301, 4096, 8, 128)
    cache = torch.randn(num_slots, num_heads, 2 * size, device=setting.device).to(dtype)
    product = torch.randn(num_tokens, num_heads, 2 * size, device=setting.device).to(dtype)
    slots = torch.randperm(num_slots)[:num_tokens].to(setting.device, torch.int32)
    expected = cache.index_copy(0, slots.long(), product)
    write_kv(cache, product[..., :size], product[..., size:], slots)
    return _compare([cache], [expected], dtype)._replace(tolerance=0.0)


def _rotate_into_cache(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels.rotary_kv import rotate_into_cache

    num_tokens, num_slots, size, num_heads, num_kv_heads = (
        (3, 40, 16, 4, 2) if setting.is_tiny else (67, 4096, 128, 32, 8)
    )
    heads = torch.randn(num_tokens, num_heads + 2 * num_kv_heads, size, device=setting.device).to(dtype)
    angles = torch.rand(num_tokens, 1, size, device=setting.device) * 6
    rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
    cache = torch.randn(num_slots, num_kv_heads, 2 * size, device=setting.device).to(dtype)
    slots = torch.randperm(num_slots)[:num_tokens].to(setting.device, torch.int32)
    keys = slice(num_heads, num_heads + num_kv_heads)
    turned = operations.rotate(heads.clone()[:, : keys.stop], rotation, num_heads)
    rows = torch.cat((turned[:, keys], heads[:, keys.stop :]), dim=-1)
    expected = [turned[:, :num_heads], cache.index_copy(0, slots.long(), rows)]
    query = rotate_into_cache(heads, rotation, None, cache, slots)
    return _compare([query, cache], expected, dtype)


def _attend(
    setting: Setting,
    dtype: torch.dtype,
    window: int | None = None,
    softcap: float | None = None,
    *,
    has_latents: bool = False,
    is_fp8: bool = False,
    has_sinks: bool = False,
) -> Compared:
    """A decode whose keys are in segments, a chunk behind others, a fresh prompt and short decodes, in one batch."""
    from models.info import AttentionInfo, LatentInfo
    from runtime.llm.attention_triton import TritonAttention
    from tests.fakes.attention_requests import Requests

    if is_fp8 and setting.is_cuda and not has_fp8(setting.device):
        raise Unavailable("needs compute capability 8.9")
    num_heads, num_kv_heads, size = (4, 2, 16) if setting.is_tiny else (16, 4, 128)
    spans = [(299, 1), (3, 9), (0, 1)] if setting.is_tiny else [(1500, 1), (700, 1), (70, 37), (0, 33), (0, 1)]
    shape = AttentionInfo(
        num_layers=1,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_size=size,
        value_head_size=size,
        sliding_window=window,
        latent=LatentInfo(size=24, rotated_size=8) if setting.is_tiny else LatentInfo(size=512, rotated_size=64),
    )
    shape = shape.compressed() if has_latents else shape
    backend = TritonAttention
    device = setting.device
    requests = Requests(spans, shape, backend=backend, block_size=32, dtype=dtype, device=device, is_fp8=is_fp8)
    requests.store_computed(0)
    query = requests.queries()
    sinks = requests.sinks() if has_sinks else None
    found = requests.attend(query, 0, window, softcap, sinks).cpu()
    compared = _compare([found], [requests.expected(query, window, softcap, sinks)], dtype)
    return compared._replace(tolerance=max(compared.tolerance, 1e-4))


def _forbid(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels import sampling

    num_rows, vocab_size = _logits_shape(setting)
    masks = np.random.default_rng(0).integers(-(2**31), 2**31, (num_rows, -(-vocab_size // 32)), dtype=np.int32)
    rows = [SampledRow(SamplingParams(), 0, 0, None, mask) for mask in masks]
    logits = torch.randn(num_rows, vocab_size, device=setting.device)
    found, expected = adjust(logits.clone(), rows, sampling), adjust(logits, rows)
    return _different(found, expected)


def _truncate(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels import sampling

    logits, rows = _sampled(setting)
    found, expected = processed_probabilities(logits, rows, sampling), processed_probabilities(logits, rows)
    return _different(found, expected)


def _search(setting: Setting, dtype: torch.dtype) -> Compared:
    from runtime.llm.kernels import sampling

    logits, rows = _sampled(setting)
    found, expected = sampled_token_ids(logits, rows, sampling), sampled_token_ids(logits, rows, None)
    return _different(torch.tensor(found), torch.tensor(expected))


def _sampled(setting: Setting) -> tuple[torch.Tensor, list[SampledRow]]:
    logits = torch.randn(_logits_shape(setting), device=setting.device) * 3
    params = [
        SamplingParams(),
        SamplingParams(top_k=40),
        SamplingParams(top_p=0.9),
        SamplingParams(top_k=50, top_p=0.8, min_p=0.01),
        SamplingParams(min_p=0.1),
    ]
    return logits, [SampledRow(params[index % len(params)], index, 3 * index, None) for index in range(len(logits))]


def _logits_shape(setting: Setting) -> tuple[int, int]:
    return (5, 2500) if setting.is_tiny else (64, 128256)


def _compare(found: list[torch.Tensor], expected: list[torch.Tensor], dtype: torch.dtype) -> Compared:
    """The largest error of all pairs, each relative to its own scale."""
    errors = []
    for ours, theirs in zip(found, expected, strict=True):
        wide = theirs.double()
        errors.append(float((ours.double() - wide).abs().max()) / max(1.0, float(wide.abs().max())))
    # What is no number is no small error.
    return Compared(max(error if error == error else float("inf") for error in errors), _TOLERANCES[dtype])


def _different(found: torch.Tensor, expected: torch.Tensor) -> Compared:
    """How many are not the same to the bit."""
    return Compared(float((found != expected).sum()), 0.0)


def _add_lora(setting: Setting, dtype: torch.dtype) -> Compared:
    found, expected = check_lora(setting, dtype)
    return _compare([found], [expected], dtype)


def _mix_experts(setting: Setting, dtype: torch.dtype) -> Compared:
    found, expected = check_experts(setting, dtype)
    return _compare([found], [expected], dtype)


CHECKS: dict[str, dict[str, Check]] = {
    "glu": {"silu": _gate, "gelu": _gelu},
    "experts": {"mix_experts": _mix_experts},
    "lora": {"add": _add_lora},
    "norm": {"add_norm": _norm},
    "rotary": {"rotate": _rotate},
    "kv_write": {"write_kv": _write},
    "rotary_kv": {"rotate_into_cache": _rotate_into_cache},
    "paged_attention": {
        "attend": _attend,
        "attend_window": partial(_attend, window=40),
        "attend_softcap": partial(_attend, softcap=2.0),
        "attend_sinks": partial(_attend, window=40, has_sinks=True),
        "attend_latents": partial(_attend, has_latents=True),
        "attend_fp8": partial(_attend, is_fp8=True),
    },
    "sampling": {"forbid": _forbid, "truncate": _truncate, "search": _search},
}
"""By module of `runtime/llm/kernels`."""
