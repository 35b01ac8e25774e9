from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.architectures import read_decoder_config
from models.info import AttentionInfo, Fp8Info, ModelInfo
from models.sizing import (
    BLOCK_SIZE_MAX,
    CPU_PROCESS_BYTES,
    CUDA_PROCESS_BYTES,
    activation_bytes,
    graph_bytes,
    kv_bytes_per_token,
    kv_cache_bytes,
    num_kv_blocks,
    replica_bytes,
    rounding_bytes,
    weight_bytes,
)
from tests.models.released import RELEASED


def info(**fields: Any) -> ModelInfo:
    return msgspec.structs.replace(QWEN_0_5B, **fields)


# Figures of the released checkpoints.
QWEN_0_5B = ModelInfo(
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
    dtype="bfloat16",
    num_parameters=494_032_768,
    weight_bytes=988_065_536,
    tied_embeddings=True,
    vocab_size=151_936,
    hidden_size=896,
    intermediate_size=4864,
    attention=AttentionInfo(num_layers=24, num_heads=14, num_kv_heads=2, head_size=64, value_head_size=64),
    max_context_length=32_768,
    has_chat_template=True,
    eos_token_ids=[151_645],
)
LLAMA_8B = info(
    architecture="LlamaForCausalLM",
    num_parameters=8_030_261_248,
    weight_bytes=16_060_522_496,
    tied_embeddings=False,
    vocab_size=128_256,
    hidden_size=4096,
    intermediate_size=14_336,
    attention=AttentionInfo(num_layers=32, num_heads=32, num_kv_heads=8, head_size=128, value_head_size=128),
    max_context_length=131_072,
)

MODELS = st.builds(
    lambda layers, kv_heads, group, head_size, hidden, vocab, tied: info(
        num_parameters=hidden * (vocab + 12 * layers * hidden),
        tied_embeddings=tied,
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        attention=AttentionInfo(
            num_layers=layers,
            num_heads=kv_heads * group,
            num_kv_heads=kv_heads,
            head_size=head_size,
            value_head_size=head_size,
        ),
    ),
    st.integers(1, 80),
    st.integers(1, 16),
    st.integers(1, 8),
    st.sampled_from([16, 64, 128]),
    st.integers(1, 8192),
    st.integers(1, 200_000),
    st.booleans(),
)
DTYPES = st.sampled_from(["float32", "bfloat16", "float16"])


def released(name: str) -> ModelInfo:
    config = read_decoder_config(RELEASED[name].config)
    return info(
        num_parameters=RELEASED[name].num_parameters,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        attention=AttentionInfo(
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_size=config.head_size,
            value_head_size=config.value_head_size,
            sliding_window=config.sliding_window,
            full_attention_layers=config.full_attention_layers,
            latent=config.latent,
        ),
    )


@pytest.mark.parametrize(
    ("name", "kv_bytes", "weights"),
    [
        ("mixtral-8x7b", 32 * 8 * 256 * 2, 93_405_585_408),  # every expert, also those that a token does not pass
        ("deepseek-v2-lite", 27 * 16 * (192 + 128) * 2, 31_412_968_448),  # keys and values as expanded
        ("gemma-2-2b", 26 * 4 * 512 * 2, 5_228_683_776),  # a window saves nothing
        ("starcoderbase-1b", 24 * 256 * 2, 2_274_414_592),  # one head of keys and values for all
    ],
)
def test_families_take_what_their_shapes_say(name: str, kv_bytes: int, weights: int) -> None:
    assert kv_bytes_per_token(released(name), "bfloat16") == kv_bytes
    assert weight_bytes(released(name), "bfloat16") == weights


def test_latents_take_what_one_head_of_their_size_does() -> None:
    lite = released("deepseek-v2-lite")
    assert kv_bytes_per_token(lite.compressed(), "bfloat16") == 27 * (512 + 64) * 2
    assert kv_bytes_per_token(lite.compressed(), "bfloat16", is_kv_fp8=True) == 27 * (512 + 64 + 2 * 4)
    # On each of several devices all of them.
    plan: dict[str, Any] = {"max_context_length": 0, "concurrency": 1}
    sizes = [kv_cache_bytes([lite.compressed()], "bfloat16", **plan, num_devices=n) for n in (1, 2)]
    assert sizes[0] == sizes[1] == BLOCK_SIZE_MAX * 27 * 576 * 2
    assert LLAMA_8B.compressed() == LLAMA_8B


def test_weights_are_counted_in_the_served_dtype() -> None:
    assert weight_bytes(QWEN_0_5B, "bfloat16") == QWEN_0_5B.weight_bytes == 988_065_536
    assert weight_bytes(QWEN_0_5B, "float32") == 1_976_131_072
    assert weight_bytes(LLAMA_8B, "float16") == 16_060_522_496


def test_kv_bytes_match_hand_computed_figures() -> None:
    assert kv_bytes_per_token(QWEN_0_5B, "bfloat16") == 24 * 2 * (64 + 64) * 2 == 12_288
    assert kv_bytes_per_token(LLAMA_8B, "bfloat16") == 32 * 8 * (128 + 128) * 2 == 131_072
    assert kv_bytes_per_token(LLAMA_8B, "float32") == 262_144


def test_keys_and_values_in_8_bit_floats_have_a_scale_each() -> None:
    num_bytes = 32 * 8 * (128 + 128 + 2 * 4)
    assert kv_bytes_per_token(LLAMA_8B, "bfloat16", is_kv_fp8=True) == num_bytes
    plan: dict[str, Any] = {"max_batch_tokens": 64, "max_num_requests": 8, "is_cuda": True, "is_kv_fp8": True}
    budget = replica_bytes(LLAMA_8B, "bfloat16", max_context_length=1024, concurrency=1, **plan)
    blocks = num_kv_blocks(LLAMA_8B, "bfloat16", memory_budget_bytes=budget, block_size=32, **plan)
    assert blocks == (1024 + BLOCK_SIZE_MAX) // 32


def test_activations_match_hand_computed_figures() -> None:
    # 2048 tokens × (2 × 4096 + 3 × 14336) × 2 bytes, 256 rows × 128256 logits × (2 + 24) bytes.
    assert activation_bytes(LLAMA_8B, "bfloat16", 2048, 256) == 2048 * 51_200 * 2 + 256 * 128_256 * 26
    # A step of 16 tokens can sample 16 rows at most.
    assert activation_bytes(LLAMA_8B, "bfloat16", 16, 256) == 16 * 51_200 * 2 + 16 * 128_256 * 26


def test_a_replica_is_the_sum_of_its_parts() -> None:
    num_bytes = replica_bytes(
        LLAMA_8B,
        "bfloat16",
        max_context_length=8192,
        concurrency=4,
        max_batch_tokens=2048,
        max_num_requests=256,
        is_cuda=True,
    )
    parts = [
        CUDA_PROCESS_BYTES,
        16_060_522_496,
        activation_bytes(LLAMA_8B, "bfloat16", 2048, 256),
        4 * (8192 + BLOCK_SIZE_MAX) * 131_072,
    ]
    assert num_bytes == sum(parts)
    assert 21 < num_bytes / 1024**3 < 22


def test_weights_that_stay_in_8_bits_take_a_byte_each_and_a_scale_for_each_row() -> None:
    fp8 = Fp8Info(layout="row", num_parameters=7_000, num_staying_parameters=6_000, num_staying_rows=50)
    model = msgspec.structs.replace(LLAMA_8B, num_parameters=10_000, fp8=fp8)
    assert weight_bytes(model, "bfloat16") == 20_000, "converted, they are as large as any"
    assert weight_bytes(model, "bfloat16", keeps_fp8=True) == 4_000 * 2 + 6_000 + 50 * 4
    assert weight_bytes(LLAMA_8B, "bfloat16", keeps_fp8=True) == weight_bytes(LLAMA_8B, "bfloat16")
    plan: dict[str, Any] = {
        "max_context_length": 0,
        "concurrency": 1,
        "max_batch_tokens": 64,
        "max_num_requests": 8,
        "is_cuda": True,
    }
    converted, kept = (replica_bytes(model, "bfloat16", **plan, keeps_fp8=keeps) for keeps in (False, True))
    assert converted - kept == 6_000 - 50 * 4 - rounding_bytes(model, 64)
    assert rounding_bytes(model, 64) == 64 * 14_336 * 5
    assert rounding_bytes(LLAMA_8B, 64) == 0


def test_captured_steps_take_what_their_largest_needs_and_only_on_gpus() -> None:
    layers, merged = 32 * 8 * 1024**2, 256 * 32 * 32 * (128 + 2) * 4
    logits = 2 * 256 * 128_256 * 2
    assert graph_bytes(LLAMA_8B, "bfloat16", 2048, 512) == 512 * 51_200 * 2 + logits + merged + layers
    plan: dict[str, Any] = {
        "max_context_length": 0,
        "concurrency": 1,
        "max_batch_tokens": 2048,
        "max_num_requests": 512,
    }
    for is_cuda, expected in ((True, graph_bytes(LLAMA_8B, "bfloat16", 2048, 512)), (False, 0)):
        without, with_graphs = (
            replica_bytes(LLAMA_8B, "bfloat16", **plan, is_cuda=is_cuda, has_graphs=has) for has in (False, True)
        )
        assert with_graphs - without == expected


def over_devices(model: ModelInfo, num_devices: int) -> int:
    return replica_bytes(
        model,
        "bfloat16",
        max_context_length=4096,
        concurrency=8,
        max_batch_tokens=512,
        max_num_requests=64,
        is_cuda=True,
        num_devices=num_devices,
    )


def test_over_two_devices_weights_and_kv_are_halved_and_the_rest_is_whole() -> None:
    kv_cache = 8 * (4096 + BLOCK_SIZE_MAX) * 131_072
    halved = 16_060_522_496 + kv_cache
    embedding = 128_256 * 4096 * 2
    assert over_devices(LLAMA_8B, 1) - over_devices(LLAMA_8B, 2) == halved // 2 - embedding


def test_heads_that_do_not_divide_leave_one_device_with_more() -> None:
    two_heads = [
        kv_cache_bytes([QWEN_0_5B], "bfloat16", max_context_length=0, concurrency=1, num_devices=n) for n in (1, 2, 4)
    ]
    assert two_heads == [BLOCK_SIZE_MAX * 12_288, BLOCK_SIZE_MAX * 6_144, BLOCK_SIZE_MAX * 6_144]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=MODELS, num_devices=st.integers(1, 8))
def test_devices_together_hold_at_least_what_one_would(model: ModelInfo, num_devices: int) -> None:
    assert num_devices * over_devices(model, num_devices) >= over_devices(model, 1)


def test_what_is_known_to_be_held_leaves_the_rest_for_blocks() -> None:
    budget: dict[str, Any] = {"memory_budget_bytes": 10_000 + 7 * 32 * 12_288, "block_size": 32}
    shape: dict[str, Any] = {"max_batch_tokens": 512, "max_num_requests": 8, "is_cuda": False}
    assert num_kv_blocks(QWEN_0_5B, "bfloat16", known_fixed_bytes=10_000, **budget, **shape) == 7


@pytest.mark.parametrize(("is_cuda", "num_copies"), [(True, 0), (False, 1)])
def test_on_cpu_a_tied_head_is_a_second_copy(is_cuda: bool, num_copies: int) -> None:
    def replica(model: ModelInfo) -> int:
        return replica_bytes(
            model,
            "bfloat16",
            max_context_length=1024,
            concurrency=1,
            max_batch_tokens=512,
            max_num_requests=8,
            is_cuda=is_cuda,
        )

    assert replica(QWEN_0_5B) - replica(info(tied_embeddings=False)) == num_copies * 151_936 * 896 * 2


def test_a_budget_below_weights_and_activations_has_no_blocks() -> None:
    def blocks(budget: int) -> int:
        return num_kv_blocks(
            QWEN_0_5B,
            "bfloat16",
            memory_budget_bytes=budget,
            block_size=32,
            max_batch_tokens=512,
            max_num_requests=8,
            is_cuda=False,
        )

    fixed = CPU_PROCESS_BYTES + 988_065_536 + 151_936 * 896 * 2 + activation_bytes(QWEN_0_5B, "bfloat16", 512, 8)
    assert blocks(0) == 0
    assert blocks(fixed + 32 * 12_288 - 1) == 0
    assert blocks(fixed + 32 * 12_288) == 1
    assert blocks(fixed + 100 * 32 * 12_288) == 100


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=MODELS,
    dtype=DTYPES,
    context=st.integers(1, 200_000),
    concurrency=st.integers(1, 64),
    block_size=st.integers(1, BLOCK_SIZE_MAX),
    batch_tokens=st.integers(1, 8192),
    num_requests=st.integers(1, 512),
    is_cuda=st.booleans(),
    num_adapters=st.integers(0, 8),
    num_devices=st.integers(1, 8),
)
def test_the_blocks_of_a_replicas_memory_hold_what_was_asked(
    model: ModelInfo,
    dtype: str,
    context: int,
    concurrency: int,
    block_size: int,
    batch_tokens: int,
    num_requests: int,
    is_cuda: bool,
    num_adapters: int,
    num_devices: int,
) -> None:
    shape: dict[str, Any] = {
        "num_devices": num_devices,
        "num_adapters": num_adapters,
        "max_batch_tokens": batch_tokens,
        "max_num_requests": num_requests,
        "is_cuda": is_cuda,
    }
    budget = replica_bytes(model, dtype, max_context_length=context, concurrency=concurrency, **shape)
    blocks = num_kv_blocks(model, dtype, memory_budget_bytes=budget, block_size=block_size, **shape)
    needed = concurrency * -(-context // block_size)
    assert blocks >= needed
    assert blocks * block_size <= concurrency * (context + BLOCK_SIZE_MAX)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=MODELS, dtype=DTYPES, context=st.integers(1, 100_000), concurrency=st.integers(1, 64))
def test_more_of_anything_never_needs_less(model: ModelInfo, dtype: str, context: int, concurrency: int) -> None:
    def replica(**more: int) -> int:
        wanted = {"max_context_length": context, "concurrency": concurrency, "max_batch_tokens": 64} | more
        return replica_bytes(model, dtype, **{"max_num_requests": 40, "is_cuda": False, **wanted})  # type: ignore[arg-type]

    least = replica()
    assert replica(max_context_length=context + 1) > least
    assert replica(concurrency=concurrency + 1) > least
    assert replica(max_batch_tokens=65) > least
    assert replica(max_num_requests=41) > least
    assert replica(num_adapters=2) > replica(num_adapters=1) > least
    assert replica(num_adapters=1, max_adapter_rank=65) > replica(num_adapters=1, max_adapter_rank=64)
