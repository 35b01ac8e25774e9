import gc
from pathlib import Path

import pytest
import torch

from models.llm_folder import inspect_llm
from runtime.device_memory import ParkedWeights, storages_on
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.loader import build_skeleton, fill_skeleton
from runtime.llm.patches.fused_layer import fuse
from runtime.llm.request import Generation
from runtime.memory import resident_bytes
from runtime.settings import Speculation
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import build_tiny_model

CPU = torch.device("cpu")
MIB = 1024 * 1024
PROMPTS = [[(7 * index + position) % 200 + 5 for position in range(20 + index)] for index in range(6)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return TinyModel(build_tiny_model(tmp_path_factory.mktemp("llama"), "llama"))


def test_after_waking_tokens_are_what_they_would_have_been(tiny: TinyModel) -> None:
    rested, sleepless = tiny.engine(num_blocks=40), tiny.engine(num_blocks=40)
    for index in range(0, len(PROMPTS), 2):
        for repetition in range(2):  # the second time with a prefix from the cache
            pair = [
                [make_request(prompt, request_id=f"{index}-{number}-{repetition}") for number, prompt in enumerate(two)]
                for two in [PROMPTS[index : index + 2]] * 2
            ]
            assert token_ids(run(rested, pair[0])) == token_ids(run(sleepless, pair[1]))
        rested.sleep()
        assert rested.wake().keys() == {"weights", "kv-cache"}


def test_nothing_computed_before_is_found_after_waking(tiny: TinyModel) -> None:
    engine = tiny.engine()
    run(engine, [make_request(PROMPTS[5], request_id="a")])
    assert run(engine, [make_request(PROMPTS[5], request_id="b")])[0][0].num_cached_tokens > 0
    engine.sleep()
    engine.wake()
    assert run(engine, [make_request(PROMPTS[5], request_id="c")])[0][0].num_cached_tokens == 0
    assert engine.stats().num_free_blocks == engine.stats().num_blocks


def test_speculation_goes_on_after_waking(tiny: TinyModel) -> None:
    engine = tiny.engine(speculation=Speculation(num_draft_tokens=3), draft_model=tiny.draft_model())
    expected = token_ids(run(tiny.engine(), [make_request(PROMPTS[0])]))
    assert token_ids(run(engine, [make_request(PROMPTS[0])])) == expected
    engine.sleep()
    engine.wake()
    assert token_ids(run(engine, [make_request(PROMPTS[0])])) == expected


def test_the_kv_pool_goes_back_to_the_system(tiny: TinyModel) -> None:
    attention = tiny.attention(num_blocks=60_000)
    assert attention.size_bytes > 100 * MIB
    for cache in attention.caches:
        cache.fill_(1.0)
    del cache
    touched = resident_bytes()
    attention.release()
    assert touched - resident_bytes() > 0.9 * attention.size_bytes
    attention.allocate()
    assert not any(bool(cache[:64].any()) for cache in attention.caches)


def test_an_engine_with_requests_does_not_sleep(tiny: TinyModel) -> None:
    engine = tiny.engine()
    engine.add(Generation("r", [make_request(PROMPTS[0])]))
    with pytest.raises(AssertionError):
        engine.sleep()


@pytest.mark.parametrize("large_bytes", [0, 1, MIB, 5 * MIB - 1, 11 * MIB + 77])
def test_parked_weights_come_back_in_place_through_every_view(large_bytes: int) -> None:
    whole = torch.randn(1000, 300)
    large = torch.arange(large_bytes, dtype=torch.uint8)  # a piece for each binary digit of its size
    head, transposed = whole[:10], whole.T
    expected = [tensor.clone() for tensor in (whole, head, transposed, large)]
    parked = ParkedWeights([whole.untyped_storage(), large.untyped_storage()], CPU)
    assert whole.untyped_storage().nbytes() == large.untyped_storage().nbytes() == 0
    parked.restore()
    for tensor, value in zip((whole, head, transposed, large), expected, strict=True):
        assert torch.equal(tensor, value)


def test_a_model_in_an_arena_is_the_same_after_its_arena_was_parked(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "qwen3")
    info = inspect_llm(directory)
    model = build_skeleton(directory, info)
    fill_skeleton(model, Checkpoint.of_model(directory, info), info, dtype=torch.bfloat16, device=CPU, has_arena=True)
    fuse(model, info.attention, lambda weight: None)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    product = model.model.layers[0].query_key_value
    merged = product._weights[0].clone()
    arena = model.lm_head.weight.untyped_storage()
    parked = ParkedWeights([arena], CPU)
    assert arena.nbytes() == 0
    parked.restore()
    found = model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(product._weights[0], merged)


def test_every_storage_of_a_device_is_found_once() -> None:
    meta = torch.device("meta")
    gc.collect()
    before = len(storages_on(meta))
    module = torch.nn.Linear(3, 4, device=meta)
    loose = [torch.empty(7, device=meta)]
    view = loose[0][2:]
    assert len(storages_on(meta)) == before + 3
    assert view.numel() == 5
    assert module.bias is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_has_its_memory_back_and_then_the_same_values() -> None:
    device = torch.device("cuda")
    weights = [torch.randn(4096, 4096, device=device) for _ in range(4)]
    view = weights[0][1:]
    expected = [weight.cpu() for weight in weights]
    held = torch.cuda.memory_allocated()
    parked = ParkedWeights(storages_on(device), device)
    assert torch.cuda.memory_allocated() < held - 250 * MIB
    parked.restore()
    assert all(torch.equal(weight.cpu(), value) for weight, value in zip(weights, expected, strict=True))
    assert torch.equal(view.cpu(), expected[0][1:])
