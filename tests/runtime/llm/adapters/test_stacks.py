import gc
from pathlib import Path

import pytest
import torch

from models.addons import adaptable_layers
from models.llm_folder import inspect_llm
from models.sizing import adapter_bytes
from runtime.engine import LoadRefused
from runtime.llm.adapters import stacks
from runtime.llm.adapters.places import find_places
from runtime.llm.adapters.stacks import AdapterStacks, columns_at_once
from runtime.llm.loader import build_skeleton, load_weights
from tests.fakes.lora_stacks import StackedLayer
from tests.fakes.tiny_llm import ARCHITECTURES, Architecture, build_tiny_model

CPU = torch.device("cpu")


def test_an_adapter_lies_in_its_slot_and_the_others_stay() -> None:
    layer = StackedLayer(16, [8, 4, 6], num_slots=3, rank_max=5, device=CPU)
    first, second = layer.adapter(2, [0, 2]), layer.adapter(5, [1])
    placed = [layer.stacks.place(adapter) for adapter in (first, second)]
    assert placed[0].digest == first.digest
    assert placed[0].file_sha256 == first.file_sha256
    for adapter, slot, ranks in ((first, placed[0].slot, [2, 0, 2]), (second, placed[1].slot, [0, 5, 0])):
        change = adapter.changes[layer.linear]
        assert layer.stack.ranks[slot].tolist() == ranks
        read = 0
        for part, rank in enumerate(ranks):
            assert torch.equal(layer.stack.narrowing[slot, part, :rank], change.narrowing[read : read + rank])
            read += rank
        for start, stop, matrix in change.widenings:
            assert torch.equal(layer.stack.widening[slot, : len(matrix), start:stop], matrix)


def test_a_slot_is_free_again_when_nobody_has_its_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_FREE_S", 0.01)
    layer = StackedLayer(16, [8], num_slots=2, device=CPU)
    kept, dropped = (layer.stacks.place(layer.adapter(rank, [0])) for rank in (1, 2))
    with pytest.raises(LoadRefused, match="taken"):
        layer.stacks.place(layer.adapter(3, [0]))
    slot = dropped.slot
    del dropped
    gc.collect()
    for rank in range(3, 20):
        placed = layer.stacks.place(layer.adapter(rank, [0]))
        assert placed.slot == slot != kept.slot
        assert layer.stack.ranks[[kept.slot, slot]].tolist() == [[1], [rank]]
        del placed


def test_an_adapter_that_does_not_change_a_layer_has_rank_0_there_whatever_was_in_the_slot() -> None:
    layer, other = StackedLayer(16, [8], num_slots=1, device=CPU), StackedLayer(16, [8], device=CPU)
    layer.stacks.place(layer.adapter(3, [0]))
    placed = layer.stacks.place(other.adapter(3, [0]))
    assert layer.stack.ranks.tolist() == [[0]]
    assert placed.slot == 0


def test_tiles_cover_every_column_of_a_part_and_none_of_another() -> None:
    most = columns_at_once(torch.bfloat16)
    tiles = StackedLayer(16, [most + 1, 7, most], dtype=torch.bfloat16, device=CPU).stack.tiles.tolist()
    assert [stop - start for _, start, stop in tiles] == [most, 1, 7, most]
    assert [part for part, _, _ in tiles] == [0, 0, 1, 2]
    assert [start for _, start, _ in tiles[1:]] == [stop for _, _, stop in tiles[:-1]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_slots_take_no_more_memory_than_is_planned(architecture: Architecture, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, architecture)
    info = inspect_llm(directory)
    model = load_weights(build_skeleton(directory, info), directory, info, dtype=torch.float32, device=CPU).model
    shapes = adaptable_layers(directory)
    places = find_places(model, shapes)
    slots = AdapterStacks(places, shapes, num_slots=3, rank_max=16, dtype=torch.float32, device=CPU)
    matrices = sum(stack.narrowing.nbytes + stack.widening.nbytes for stack in slots.by_linear.values())
    assert matrices <= 3 * adapter_bytes(info, "float32", 16)
