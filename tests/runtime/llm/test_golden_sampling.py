"""Every way of choosing tokens, through the whole engine, against a slow loop over transformers' own logits.

The loop follows the engine's tokens and asks of each whether it is where the request's uniform number falls.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtime.llm.request import Request
from runtime.llm.sampler import uniforms
from runtime.submission import SamplingParams
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import build_tiny_model
from tests.runtime.llm.sampling import reference

NUM_NEW_TOKENS = 10
PROMPT = [5, 6, 7, 8, 5, 6, 7, 9, 5, 6, 5]
MARGIN = 1e-3
SAMPLINGS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.0, repetition_penalty=1.5),
    SamplingParams(temperature=0.0, repetition_penalty=0.7, frequency_penalty=2.0),
    SamplingParams(temperature=3.0, top_p=0.9, top_k=30, min_p=0.01),
    SamplingParams(temperature=3.0, typical_p=0.7),
    SamplingParams(temperature=2.0, repetition_penalty=1.2, presence_penalty=1.0, frequency_penalty=-0.5),
    SamplingParams(temperature=3.0, logit_bias={5: 20.0, 6: 20.0, 7: -100.0}),
    SamplingParams(temperature=4.0, mirostat_target=3.0, mirostat_lr=0.5),
    SamplingParams(temperature=3.0, mirostat_target=1.0, mirostat_lr=1.0, frequency_penalty=1.0),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def tiny(directory: Path) -> TinyModel:
    return TinyModel(directory)


@pytest.fixture(scope="module")
def original(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def requests() -> list[Request]:
    return [
        make_request(PROMPT, request_id=str(i), sampling=sampling, seed=i, max_tokens=NUM_NEW_TOKENS)
        for i, sampling in enumerate(SAMPLINGS)
    ]


def reachable(distribution: reference.Floats, uniform: float) -> set[int]:
    """Tokens that a number this near to the uniform one falls on, and all that are as good as the best of a row."""
    running = np.cumsum(distribution)
    around = np.clip([uniform - MARGIN, uniform, uniform + MARGIN], 0, 1 - 1e-12) * running[-1]
    first, _, last = np.searchsorted(running, around, side="right")
    return {token_id for token_id in range(int(first), int(last) + 1) if distribution[token_id] > 0}


def assert_chosen(original: Any, request: Request, output: list[int]) -> None:
    params = request.sampling
    with torch.inference_mode():
        logits = original(torch.tensor([PROMPT + output])).logits[0, len(PROMPT) - 1 :].tolist()
    mu = None if params.mirostat_target is None else 2 * params.mirostat_target
    for i, token_id in enumerate(output):
        distribution = reference.distribution(logits[i], params, prompt=PROMPT, output=output[:i], mu=mu)
        (uniform,) = uniforms([request.seed], [len(PROMPT) + i]).tolist()
        assert token_id in reachable(distribution, uniform), f"{params}, token {i}"
        if mu is not None and params.mirostat_target is not None:
            adjusted = reference.adjust(logits[i], params, prompt=PROMPT, output=output[:i])
            share = float(reference.softmax(adjusted / params.temperature)[token_id])
            mu -= params.mirostat_lr * (-math.log2(share) - params.mirostat_target)
            assert request.mirostat_mu is not None
    if mu is not None:
        assert request.mirostat_mu == pytest.approx(mu, abs=1e-2)


@pytest.mark.parametrize(
    "engine",
    [{}, {"num_blocks": 9, "max_batch_tokens": 7}, {"enable_prefix_cache": False, "max_batch_tokens": 3}],
    ids=["together", "preempted", "in chunks"],
)
def test_tokens_are_those_of_a_slow_loop(tiny: TinyModel, original: Any, engine: dict[str, Any]) -> None:
    asked = requests()
    outputs = token_ids(run(tiny.engine(**engine), asked, steps_between=1))
    for request, output in zip(asked, outputs, strict=True):
        assert len(output) == NUM_NEW_TOKENS
        assert_chosen(original, request, output)
    if "num_blocks" in engine:
        assert any(request.num_preemptions for request in asked)
