"""The whole engine against transformers' own greedy generate: the same tokens, whatever the batch looks like.

Every architecture and every option of one that changes what is computed is a case. Some cases go through all ways of
batching; the others through the one that mixes most.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoModelForCausalLM

from runtime.llm.attention_gather import Span
from runtime.llm.kernel_choice import Kernels
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.request import Request
from runtime.submission import SamplingParams
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_gemma3 import build_tiny_gemma3
from tests.fakes.tiny_llm import ARCHITECTURES, VOCAB_SIZE, Architecture, build_tiny_model

NUM_NEW_TOKENS = 12
PROMPT_LENGTHS = [1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 5]
MARGIN_MIN = 1e-3
"""Logits of the best and the second token; closer ones may swap by rounding, and would prove nothing."""

AS_IF_KERNELS = Kernels(LayerOperations(*PLAIN))
"""Plain operations in the places of kernels."""

SEEDED = SamplingParams(temperature=0.9, top_p=0.95, top_k=40, min_p=0.01)


class Case(NamedTuple):
    architecture: Architecture
    settings: dict[str, Any]
    keeps_latents: bool = False


_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
_YARN = {"factor": 4.0, "original_max_position_embeddings": 128, "mscale": 0.8, "mscale_all_dim": 0.6}
_LONGROPE = {"rope_type": "longrope", "short_factor": [1 + i / 8 for i in range(8)], "long_factor": [4.0] * 8}
_HALF_WINDOWED = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}

CASES = {name: Case(name, {}) for name in ARCHITECTURES} | {
    "llama with biases": Case("llama", {"attention_bias": True, "mlp_bias": True, "seed": 1}),
    "llama 3 frequencies": Case("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, **_LLAMA3}}),
    "llama linear": Case("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    "llama dynamic": Case("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
    "llama yarn": Case("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **_YARN}}),
    "qwen2 half windowed": Case("qwen2", _HALF_WINDOWED),
    "qwen3 half windowed": Case("qwen3", {**_HALF_WINDOWED, "attention_bias": True}),
    "mixtral windowed": Case("mixtral", {"sliding_window": 8, "seed": 1}),
    "gemma3 linear": Case("gemma3", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "attention_bias": True}),
    "gemma2 of large heads": Case("gemma2", {"head_dim": 256, "num_attention_heads": 2}),
    "phi without norms": Case("phi", {"qk_layernorm": False, "num_key_value_heads": 2}),
    "phi3 longrope": Case("phi3", {"rope_scaling": _LONGROPE, "original_max_position_embeddings": 512}),
    "phi3 turning a part": Case("phi3", {"rope_parameters": {"partial_rotary_factor": 0.75}, "sliding_window": None}),
    "stablelm parallel": Case("stablelm", {"use_parallel_residual": True, "num_key_value_heads": 1}),
    "gpt_neox serial": Case("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    "gpt_bigcode multi-head": Case("gpt_bigcode", {"multi_query": False}),
    "starcoder2 without biases": Case("starcoder2", {"use_bias": False, "sliding_window": None}),
    "deepseek_v2 lite": Case("deepseek_v2", {"q_lora_rank": None, "v_head_dim": 32}),
    "deepseek_v2 in groups, yarn": Case(
        "deepseek_v2",
        {
            "topk_method": "group_limited_greedy",
            "n_group": 2,
            "topk_group": 1,
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **_YARN},
        },
    ),
}
CASES |= {f"{name}, as latents": CASES[name]._replace(keeps_latents=True) for name in CASES if "deepseek" in name}
TEXT_HALF = "the text half of a Gemma 3 that reads images"
IN_EVERY_WAY = ["llama", "qwen2", "gemma2", "gpt_bigcode", "deepseek_v2", "deepseek_v2, as latents"]


class Golden:
    def __init__(self, directory: Path, *, keeps_latents: bool = False) -> None:
        self.directory = directory
        self.keeps_latents = keeps_latents
        self.tiny = TinyModel(directory, keeps_latents=keeps_latents)
        generator = torch.Generator().manual_seed(5)
        self.prompts = [
            torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS
        ]
        self.reference = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="eager"
        )
        self.expected = [_generate(self.reference, prompt) for prompt in self.prompts]


_golden: dict[str, Golden] = {}


@pytest.fixture(scope="module", params=[*CASES, TEXT_HALF])
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return _build(request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=IN_EVERY_WAY)
def thorough(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return _build(request.param, tmp_path_factory)


def _build(name: str, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    if name not in _golden:
        directory = tmp_path_factory.mktemp("golden")
        if name == TEXT_HALF:
            _golden[name] = Golden(build_tiny_gemma3(directory))
        else:
            case = CASES[name]
            built = build_tiny_model(directory, case.architecture, **case.settings)
            _golden[name] = Golden(built, keeps_latents=case.keeps_latents)
    return _golden[name]


def test_logits_of_a_prompt_alone(golden: Golden) -> None:
    for prompt in golden.prompts:
        expected = golden.reference(torch.tensor([prompt])).logits[0]
        assert (golden.tiny.logits(prompt, [_span(prompt)]) - expected).abs().max() < 1e-4


def test_logits_in_bfloat16_point_the_same_way(golden: Golden) -> None:
    tiny = TinyModel(golden.directory, dtype=torch.bfloat16, keeps_latents=golden.keeps_latents)
    prompt = golden.prompts[-1]
    expected = golden.reference(torch.tensor([prompt])).logits[0]
    assert cosine_similarity(tiny.logits(prompt, [_span(prompt)]).float(), expected).mean() > 0.98


def test_each_prompt_alone(golden: Golden) -> None:
    for request, expected in zip(_requests(golden), golden.expected, strict=True):
        assert token_ids(run(golden.tiny.engine(), [request])) == [expected]


def test_a_mixed_batch_in_chunks_again_from_the_cache_and_preempted_with_look_ahead(golden: Golden) -> None:
    engine = golden.tiny.engine(max_batch_tokens=7)
    for call in ("first", "second"):
        assert token_ids(run(engine, _requests(golden, call), steps_between=2)) == golden.expected
    requests = _requests(golden)[::-1]
    engine = golden.tiny.engine(max_batch_tokens=7, num_blocks=_few_blocks(), look_ahead=True)
    assert token_ids(run(engine, requests)) == golden.expected[::-1]
    assert sum(request.num_preemptions for request in requests) > 0


@pytest.mark.parametrize("options", [{"enable_patches": False}, {"kernels": AS_IF_KERNELS}], ids=["none", "all"])
def test_a_mixed_batch_without_patches_and_with_those_that_only_kernels_bring(
    golden: Golden, options: dict[str, Any]
) -> None:
    tiny = TinyModel(golden.directory, keeps_latents=golden.keeps_latents, **options)
    engine = tiny.engine(max_batch_tokens=7)
    assert token_ids(run(engine, _requests(golden), steps_between=2)) == golden.expected


@pytest.mark.parametrize("enable_prefix_cache", [True, False])
@pytest.mark.parametrize("max_batch_tokens", [1, 3, 7, BLOCK_SIZE, 64])
def test_mixed_batches_in_chunks(thorough: Golden, max_batch_tokens: int, enable_prefix_cache: bool) -> None:
    engine = thorough.tiny.engine(max_batch_tokens=max_batch_tokens, enable_prefix_cache=enable_prefix_cache)
    assert token_ids(run(engine, _requests(thorough), steps_between=2)) == thorough.expected
    again = run(engine, _requests(thorough, call="second"))
    assert token_ids(again) == thorough.expected
    assert (again[-1][0].num_cached_tokens > 0) == enable_prefix_cache


@pytest.mark.parametrize("max_batch_tokens", [3, 64])
def test_preemption_changes_nothing(thorough: Golden, max_batch_tokens: int) -> None:
    requests = _requests(thorough)[::-1]
    engine = thorough.tiny.engine(num_blocks=_few_blocks(), max_batch_tokens=max_batch_tokens)
    assert token_ids(run(engine, requests)) == thorough.expected[::-1]
    assert sum(request.num_preemptions for request in requests) > 0


def test_a_seeded_request_draws_the_same_tokens_in_any_batch(thorough: Golden) -> None:
    alone = [
        token_ids(run(thorough.tiny.engine(), [make_request(prompt, sampling=SEEDED, seed=seed)]))[0]
        for seed, prompt in enumerate(thorough.prompts)
    ]
    together = [
        make_request(prompt, request_id=f"seeded {seed}", sampling=SEEDED, seed=seed)
        for seed, prompt in enumerate(thorough.prompts)
    ]
    greedy = [make_request(prompt, request_id=f"greedy {i}") for i, prompt in enumerate(thorough.prompts)]
    engine = thorough.tiny.engine(max_batch_tokens=7, num_blocks=12)
    outputs = run(engine, greedy[:2] + together[::-1] + greedy[2:], steps_between=1)
    assert token_ids(outputs[2 : 2 + len(together)]) == alone[::-1]


def test_with_8_bit_keys_and_values_every_batch_says_what_a_request_alone_says(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    golden = _build("llama", tmp_path_factory)
    tiny = TinyModel(golden.directory, is_kv_fp8=True)
    alone = [token_ids(run(tiny.engine(), [request]))[0] for request in _requests(golden)]
    engine = tiny.engine(max_batch_tokens=7)
    for call in ("first", "second"):
        assert token_ids(run(engine, _requests(golden, call), steps_between=2)) == alone


def _requests(golden: Golden, call: str = "first") -> list[Request]:
    return [
        make_request(prompt, request_id=f"{call} {i}", max_tokens=NUM_NEW_TOKENS)
        for i, prompt in enumerate(golden.prompts)
    ]


def _span(prompt: list[int]) -> Span:
    return Span(0, len(prompt), 0, list(range(1, 2 + len(prompt) // BLOCK_SIZE)))


def _few_blocks() -> int:
    """Enough for the longest request, and for no two long ones."""
    return -(-(max(PROMPT_LENGTHS) + NUM_NEW_TOKENS) // BLOCK_SIZE) + 2


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
