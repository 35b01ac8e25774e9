"""The formulas against the figures that were worked out by hand for the 8B shape on one GPU (engine.md, section 3)."""

import pytest
import torch

from benchmarks.gpu_models import LLAMA_8B, build_model, config_of, describe
from benchmarks.gpu_rooflines import Limits, bound_s, decode_s, num_multiplied, prefill_s

LIMITS = Limits(bytes_per_s=4.3e12, flops=790e12, host_bytes_per_s=5e10)
INFO = describe(config_of(LLAMA_8B, is_tiny=False), num_parameters=8_030_261_248)


@pytest.mark.parametrize(("num_requests", "step_ms"), [(1, 3.52), (8, 3.74), (32, 4.49), (128, 7.49), (256, 11.5)])
def test_a_decode_step_reads_weights_and_keys(num_requests: int, step_ms: float) -> None:
    found = decode_s(LIMITS, INFO, "bfloat16", num_requests, 1024)
    assert found is not None
    assert found * 1000 == pytest.approx(step_ms, rel=0.01)


def test_a_prompt_of_a_thousand_tokens_is_bound_by_arithmetic() -> None:
    found = prefill_s(LIMITS, INFO, "bfloat16", 1, 1024)
    assert found is not None
    assert found * 1000 == pytest.approx(18.4, rel=0.03)


def test_the_slower_bound_counts_and_without_limits_there_is_none() -> None:
    assert bound_s(LIMITS, 4.3e12, 1.0) == pytest.approx(1.0)
    assert bound_s(LIMITS, 1.0, 790e12) == pytest.approx(1.0)
    assert bound_s(None, 1.0) is None


def test_a_tied_embedding_is_read_as_the_head() -> None:
    built = build_model(config_of("qwen3-0.6b", is_tiny=True), device=torch.device("cpu"), dtype=torch.float32)
    assert num_multiplied(built.info) == built.info.num_parameters
    assert num_multiplied(INFO) == INFO.num_parameters - 128256 * 4096
