"""Which models get graphs; and on a GPU CUDA's own, in whose steps nobody may wait."""

import msgspec
import pytest
import torch

from models.info import ModelInfo
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.cuda_graphs import CudaCapturer, choose_graphs
from runtime.settings import LlmSettings
from tests.fakes.graphed_requests import Side, are_same, make_rows
from tests.fakes.toy_network import TOY_SHAPE, VOCAB_SIZE, ToyModel
from tests.fakes.triton_device import DEVICE, IS_INTERPRETED

SETTINGS = LlmSettings(device=str(DEVICE), memory_budget_bytes=0, dtype="float32", max_context_length=64)
INFO = ModelInfo(
    architecture="LlamaForCausalLM",
    model_type="llama",
    dtype="float32",
    num_parameters=1,
    weight_bytes=4,
    tied_embeddings=True,
    vocab_size=VOCAB_SIZE,
    hidden_size=TOY_SHAPE.num_heads * TOY_SHAPE.head_size,
    intermediate_size=1,
    attention=TOY_SHAPE,
    max_context_length=64,
    has_chat_template=False,
    eos_token_ids=[],
)
EVERY_KIND = [[(9, 1)], [(3, 1), (5, 1)], [(300, 1), (4, 3)], [(0, 13)], [(12, 1), (7, 10), (0, 1), (40, 9)]]


def test_graphs_are_for_triton_on_cuda_where_they_are_switched_on() -> None:
    model, attention = ToyModel(DEVICE), Side(ToyModel(DEVICE)).attention
    gathering = GatherAttention(TOY_SHAPE, num_blocks=3, block_size=4, dtype=torch.float32, device=DEVICE)
    assert choose_graphs(model, gathering, INFO, SETTINGS) is None
    assert choose_graphs(model, attention, INFO, msgspec.structs.replace(SETTINGS, enable_graphs=False)) is None
    assert (choose_graphs(model, attention, INFO, SETTINGS) is None) == IS_INTERPRETED


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
@pytest.mark.parametrize("is_replayed", [False, True])
def test_nobody_waits_for_the_device_in_a_step(is_replayed: bool) -> None:
    side = Side(ToyModel(DEVICE), CudaCapturer(DEVICE) if is_replayed else None)
    side.forward.warm_up(1000)
    for lengths in EVERY_KIND:
        rows = make_rows(lengths)
        wanted = [sum(now for _, now in lengths) - 1]
        for _ in range(3):
            side.forward.compute(rows, wanted)
        torch.cuda.set_sync_debug_mode("error")
        try:
            side.forward.compute(rows, wanted).logits(wanted)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
def test_every_size_computes_what_is_computed_without() -> None:
    model = ToyModel(DEVICE)
    with_graphs, without = Side(model, CudaCapturer(DEVICE)), Side(model)
    assert with_graphs.graphs is not None
    for size in with_graphs.sizes.all():
        lengths = [(5, 1)] * min(size.num_tokens, 20)
        if size.is_mixed:
            lengths = [*lengths[: size.num_tokens - 12], (0, 12)]
        rows = make_rows(lengths)
        for _ in range(3):
            with_graphs.logits(rows)
        for side in (with_graphs, without):
            side.fill()
        assert are_same(with_graphs.logits(rows), without.logits(rows)), size


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
def test_memory_of_graphs_is_counted_and_given_back() -> None:
    capturer = CudaCapturer(DEVICE)
    side = Side(ToyModel(DEVICE), capturer)
    side.forward.warm_up(1000)
    assert side.graphs is not None
    assert capturer.size_bytes() > 0
    reserved_bytes = torch.cuda.memory_reserved()
    side.graphs.release()
    torch.cuda.empty_cache()
    assert capturer.size_bytes() == 0
    assert torch.cuda.memory_reserved() < reserved_bytes


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
def test_what_waits_cannot_be_captured_and_harms_nothing() -> None:
    capturer = CudaCapturer(DEVICE)
    tensor = torch.zeros(3, device=DEVICE)

    def wait() -> None:
        tensor.fill_(float(tensor.sum()))

    def count() -> None:
        tensor.add_(1)

    with torch.inference_mode():
        with pytest.raises(RuntimeError):
            capturer.capture(wait)
        replay = capturer.capture(count)
        before = tensor.clone()
        replay()
    assert torch.equal(tensor, before + 1)
