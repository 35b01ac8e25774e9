"""The whole engine with the layers' and the sampler's kernels gives the tokens that it gives without."""

from pathlib import Path
from typing import Any

import pytest

from runtime.llm import attention_triton
from runtime.llm.attention_triton import TritonAttention
from runtime.llm.kernel_choice import triton_kernels
from runtime.submission import SamplingParams
from tests.fakes.attended_model import AttendedModel, what_it_says
from tests.fakes.tiny_engine import GREEDY, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import Architecture, build_tiny_model
from tests.fakes.triton_device import IS_INTERPRETED

SEEDED = SamplingParams(temperature=0.9, top_p=0.95, top_k=40, min_p=0.01)


@pytest.mark.skipif(not IS_INTERPRETED, reason="the tiny engine computes on the CPU")
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, where hardware says infinity
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma", "gemma3", "qwen2_moe", "deepseek_v2"])
def test_kernels_give_the_same_tokens(architecture: Architecture, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, architecture)
    outputs = []
    for tiny in (TinyModel(directory), TinyModel(directory, kernels=triton_kernels())):
        requests = [
            make_request([5, 9, 12], request_id="greedy", max_tokens=3, sampling=GREEDY),
            make_request([7, 3], request_id="seeded", max_tokens=3, sampling=SEEDED, seed=11),
        ]
        outputs.append(token_ids(run(tiny.engine(), requests)))
    assert outputs[0] == outputs[1]


@pytest.mark.skipif(not IS_INTERPRETED, reason="the tiny engine computes on the CPU")
@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("llama", {}), ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1})],
)
def test_layers_rotate_on_the_way_into_the_cache(
    architecture: Architecture, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = build_tiny_model(tmp_path, architecture, **settings)
    expected = what_it_says(AttendedModel(directory, TritonAttention), 20, 3, 31)

    def refuse(*arguments: object) -> None:
        raise AssertionError("keys come rotated already")

    monkeypatch.setattr(attention_triton, "write_kv", refuse)
    assert what_it_says(AttendedModel(directory, TritonAttention, triton_kernels()), 20, 3, 31) == expected
