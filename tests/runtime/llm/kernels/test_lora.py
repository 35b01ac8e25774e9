import pytest
import torch

from runtime.llm.kernels import lora
from tests.fakes.lora_stacks import StackedLayer
from tests.fakes.triton_device import DEVICE

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 2e-2}
"""Relative to the largest. The interpreter cuts bfloat16 off where hardware rounds it."""

ONE, THREE = [40], [130, 20, 9]
FEW, MANY = [0, -1, 2, 1, 0], [0] * 35 + [-1] + [1] * 4


def check(layer: StackedLayer, ranks: dict[int, list[int]], owners: list[int], num_tokens_max: int = 64) -> None:
    """`ranks`: of each adapter, and the parts that it changes; `owners`: an adapter's number by token, or -1."""
    adapters = [layer.adapter(rank, parts) for rank, parts in ranks.items()]
    placed = [layer.stacks.place(adapter) for adapter in adapters]
    inputs, before = layer.random(len(owners), layer.width), layer.random(len(owners), layer.num_outputs)
    expected, found = before.clone(), before.clone()
    of_token = torch.tensor(owners)
    for number, adapter in enumerate(adapters):
        rows = (of_token == number).nonzero().flatten().to(DEVICE)
        adapter.changes[layer.linear].add(inputs, expected, rows)
    slots = [-1 if owner < 0 else placed[owner].slot for owner in owners]
    lora.add(found, inputs, layer.stack, layer.groups(slots, lora, num_tokens_max))
    difference = (found.float() - expected.float()).abs().max()
    assert difference <= TOLERANCES[inputs.dtype] * expected.abs().max()
    is_plain = (of_token < 0).to(DEVICE)
    assert torch.equal(found[is_plain], before[is_plain])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("width", "parts", "ranks", "owners"),
    [
        (64, ONE, {1: [0], 3: [0], 64: [0]}, FEW),
        (70, THREE, {5: [0, 1, 2], 17: [0, 2]}, MANY),
        (600, [64, 33], {8: [1], 33: [0], 48: [0, 1]}, FEW),
        (300, ONE, {16: [0]}, [-1]),
    ],
)
def test_the_kernels_add_what_plain_torch_does(
    width: int, parts: list[int], ranks: dict[int, list[int]], owners: list[int], dtype: torch.dtype
) -> None:
    torch.manual_seed(width)
    check(StackedLayer(width, parts, dtype=dtype, device=DEVICE), ranks, owners)


def test_a_largest_rank_that_is_no_power_of_two() -> None:
    torch.manual_seed(1)
    check(StackedLayer(40, THREE, rank_max=20, device=DEVICE), {20: [0, 1], 7: [2]}, [1, 0])


def test_inputs_whose_rows_are_apart() -> None:
    torch.manual_seed(1)
    layer = StackedLayer(16, [8], device=DEVICE)
    placed = layer.stacks.place(layer.adapter(2, [0]))
    wide, outputs = layer.random(3, 40), layer.random(3, 8)
    groups = layer.groups([placed.slot] * 3, lora, 3)
    found = outputs.clone()
    lora.add(found, wide[:, :16], layer.stack, groups)
    lora.add(outputs, wide[:, :16].contiguous(), layer.stack, groups)
    assert torch.equal(found, outputs)


def test_what_is_beyond_the_rank_in_a_slot_is_never_read() -> None:
    torch.manual_seed(1)
    layer = StackedLayer(40, THREE, device=DEVICE)
    layer.stack.narrowing.fill_(float("nan"))
    layer.stack.widening.fill_(float("nan"))
    check(layer, {3: [1]}, [0, -1])


def test_no_tokens_are_no_work() -> None:
    layer = StackedLayer(16, [8], device=DEVICE)
    lora.add(layer.random(0, 8), layer.random(0, 16), layer.stack, layer.groups([], lora, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_captured_graph_serves_other_adapters_and_fewer_tokens() -> None:
    torch.manual_seed(1)
    layer = StackedLayer(64, THREE, dtype=torch.bfloat16, device=DEVICE)
    placed = [layer.stacks.place(layer.adapter(rank, [0, 2])) for rank in (3, 8)]
    inputs, before = layer.random(8, 64), layer.random(8, 159)
    groups, others = (layer.groups(slots, lora, 8) for slots in ([placed[0].slot] * 8, [-1, placed[1].slot, -1]))
    expected, found = before.clone(), before.clone()
    lora.add(expected, inputs, layer.stack, others)
    lora.add(before.clone(), inputs, layer.stack, groups)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        lora.add(found, inputs, layer.stack, groups)
    found.copy_(before)
    groups.items.copy_(others.items)
    groups.tokens[: len(others.tokens)].copy_(others.tokens)
    graph.replay()
    assert torch.equal(found, expected)
