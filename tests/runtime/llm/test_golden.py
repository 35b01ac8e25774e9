"""The whole engine against transformers' own greedy generate: the same tokens, whatever the batch looks like."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from runtime.llm.request import Request
from runtime.protocol import SamplingParams
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import VOCAB_SIZE, Architecture, build_tiny_model

ARCHITECTURES: list[Architecture] = ["llama", "qwen2", "qwen3", "mistral"]
NUM_NEW_TOKENS = 12
PROMPT_LENGTHS = [1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 5]
MARGIN_MIN = 1e-3
"""Logits of the best and the second token; closer ones may swap by rounding, and would prove nothing."""

SEEDED = SamplingParams(temperature=0.9, top_p=0.95, top_k=40, min_p=0.01)


class Golden:
    def __init__(self, directory: Path) -> None:
        self.tiny = TinyModel(directory)
        generator = torch.Generator().manual_seed(5)
        self.prompts = [
            torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS
        ]
        reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self.expected = [_generate(reference, prompt) for prompt in self.prompts]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(build_tiny_model(tmp_path_factory.mktemp(request.param), request.param))


def test_each_prompt_alone(golden: Golden) -> None:
    for prompt, expected in zip(golden.prompts, golden.expected, strict=True):
        outputs = run(golden.tiny.engine(), [make_request(prompt, max_tokens=NUM_NEW_TOKENS)])
        assert token_ids(outputs) == [expected]


@pytest.mark.parametrize("enable_prefix_cache", [True, False])
@pytest.mark.parametrize("max_batch_tokens", [1, 3, 7, 64])
def test_mixed_batches_in_chunks(golden: Golden, max_batch_tokens: int, enable_prefix_cache: bool) -> None:
    engine = golden.tiny.engine(max_batch_tokens=max_batch_tokens, enable_prefix_cache=enable_prefix_cache)
    assert token_ids(run(engine, _requests(golden), steps_between=2)) == golden.expected
    again = run(engine, _requests(golden))
    assert token_ids(again) == golden.expected
    assert (again[-1][0].num_cached_tokens > 0) == enable_prefix_cache


@pytest.mark.parametrize("max_batch_tokens", [3, 64])
def test_preemption_changes_nothing(golden: Golden, max_batch_tokens: int) -> None:
    longest = max(PROMPT_LENGTHS) + NUM_NEW_TOKENS
    num_blocks = -(-longest // BLOCK_SIZE) + 2
    requests = _requests(golden)[::-1]
    engine = golden.tiny.engine(num_blocks=num_blocks, max_batch_tokens=max_batch_tokens)
    assert token_ids(run(engine, requests)) == golden.expected[::-1]
    assert sum(request.num_preemptions for request in requests) > 0


def test_a_seeded_request_draws_the_same_tokens_in_any_batch(golden: Golden) -> None:
    alone = [
        token_ids(run(golden.tiny.engine(), [make_request(prompt, sampling=SEEDED, seed=seed)]))[0]
        for seed, prompt in enumerate(golden.prompts)
    ]
    together = [
        make_request(prompt, request_id=f"seeded {seed}", sampling=SEEDED, seed=seed)
        for seed, prompt in enumerate(golden.prompts)
    ]
    greedy = [make_request(prompt, request_id=f"greedy {i}") for i, prompt in enumerate(golden.prompts)]
    engine = golden.tiny.engine(max_batch_tokens=7, num_blocks=12)
    outputs = run(engine, greedy[:2] + together[::-1] + greedy[2:], steps_between=1)
    assert token_ids(outputs[2 : 2 + len(together)]) == alone[::-1]


def _requests(golden: Golden) -> list[Request]:
    return [
        make_request(prompt, request_id=str(i), max_tokens=NUM_NEW_TOKENS) for i, prompt in enumerate(golden.prompts)
    ]


def _generate(model: Any, prompt: list[int]) -> list[int]:
    input_ids = torch.tensor([prompt])
    generated = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=NUM_NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best_two = torch.stack(generated.logits).topk(2).values
    assert (best_two[..., 0] - best_two[..., 1]).min() > MARGIN_MIN, "choose another seed"
    return [int(token_id) for token_id in generated.sequences[0, len(prompt) :]]
