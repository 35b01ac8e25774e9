"""The sampler alone: logits of a full batch become tokens, with kernels and without, the copy to the host included."""

from functools import partial

import torch

from benchmarks.gpu_models import LLAMA_8B, config_of
from benchmarks.gpu_rooflines import bound_s
from benchmarks.gpu_rows import Figure, RowSpec, Unavailable
from benchmarks.gpu_setting import Setting
from runtime.llm.sampler import sample
from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.sampling.token_counts import TokenCounts
from runtime.submission import SamplingParams

RULES = {
    "greedy": SamplingParams(temperature=0),
    "temperature": SamplingParams(),
    "top_p": SamplingParams(top_p=0.9),
    "top_k_top_p_min_p": SamplingParams(top_k=50, top_p=0.9, min_p=0.02),
    "penalties": SamplingParams(temperature=0, frequency_penalty=0.5, repetition_penalty=1.1),
}
BATCHES = (1, 32, 256)


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    return [
        RowSpec(f"{rule}.b{num_rows}{suffix}", partial(measure_sampler, setting, rule, num_rows, has_kernels))
        for rule in RULES
        for num_rows, has_kernels, suffix in [*((size, True, "") for size in BATCHES), (256, False, ".kernels_off")]
    ]


def sampled_token_ids(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> list[int]:
    """On the host."""
    return [token.token_id for token in sample(logits, rows, kernels).tokens()]


def measure_sampler(setting: Setting, rule: str, num_rows: int, has_kernels: bool) -> Figure:
    vocab_size = config_of(LLAMA_8B, is_tiny=setting.is_tiny)["vocab_size"]
    logits = torch.randn(num_rows, vocab_size, device=setting.device, dtype=setting.dtype) * 4
    kernels: SamplingKernels | None = setting.kernels.sampling if has_kernels else None
    if has_kernels and kernels is None and setting.is_cuda:
        raise Unavailable("needs triton")
    params = RULES[rule]
    sampled_rows = [
        SampledRow(params, seed, 100, None, token_counts=TokenCounts.of(params, list(range(100))))
        for seed in range(num_rows)
    ]

    def run() -> None:
        with torch.inference_mode():
            sampled_token_ids(logits, sampled_rows, kernels)

    duration_s = setting.wall_time(run, num_warm=2)
    best_s = bound_s(setting.limits, logits.nbytes)
    return Figure(duration_s * 1000, "ms", None if best_s is None else best_s * 1000)
