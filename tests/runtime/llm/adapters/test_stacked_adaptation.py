"""Adapters in slots, with plain torch in place of the kernels: what is prepared for a step, and when."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from models.addons import adaptable_layers
from runtime.llm.adapters.grouping import ITEM_FIELDS
from runtime.llm.adapters.places import find_places
from runtime.llm.adapters.stacked_adaptation import StackedAdaptation
from runtime.llm.adapters.stacks import AdapterStacks, SlottedAdapter
from runtime.llm.forward import Forward, TokenRow
from tests.fakes.lora_stacks import PlainKernels
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import build_tiny_model

CPU = torch.device("cpu")
MAX_BATCH_TOKENS = 80


class World:
    def __init__(self, folder: Path) -> None:
        base = build_tiny_model(folder / "base", "llama")
        self.tiny = TinyModel(base)
        shapes = adaptable_layers(base)
        places = find_places(self.tiny.model, shapes)
        self.stacks = AdapterStacks(places, shapes, num_slots=2, rank_max=8, dtype=torch.float32, device=CPU)
        self.kernels = PlainKernels()
        self.stacked = StackedAdaptation(self.stacks, self.kernels, max_batch_tokens=MAX_BATCH_TOKENS, device=CPU)
        self.directories = [build_tiny_addon(folder / str(rank), base, seed=rank, rank=rank) for rank in (3, 8, 2)]

    def place(self, number: int) -> SlottedAdapter:
        return self.stacks.place(self.tiny.adapter(self.directories[number]))

    def num_hooks(self) -> int:
        return sum(len(linear._forward_hooks) for linear in self.stacks.by_linear)

    def logits(self, rows: Sequence[TokenRow], *, is_stacked: bool = True) -> torch.Tensor:
        """Of every token."""
        adaptation = self.stacked if is_stacked else self.tiny.adaptation
        forward = Forward(self.tiny.model, self.tiny.attention(), adaptation=adaptation)
        return forward.compute(rows).logits(list(range(sum(len(row.token_ids) for row in rows))))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("stacked"))


def rows_of(adapters: Sequence[object | None]) -> list[TokenRow]:
    """One long prefill, which is several items, and decodes."""
    lengths = [37] + [1] * (len(adapters) - 1)
    rows = []
    first = 1
    for number, (length, adapter) in enumerate(zip(lengths, adapters, strict=True)):
        token_ids = [3 + (7 * number + 5 * i) % 200 for i in range(length)]
        rows.append(TokenRow(token_ids, 0, list(range(first, first + 5)), adapter=adapter))  # type: ignore[arg-type]
        first += 5
    return rows


def test_slots_give_what_adapters_by_themselves_give(world: World) -> None:
    plain = [world.tiny.adapter(directory) for directory in world.directories[:2]]
    placed = [world.place(number) for number in (0, 1)]
    order = (0, None, 1, 0, 1, None)
    found, expected = (
        world.logits(rows_of([None if i is None else adapters[i] for i in order]), is_stacked=is_stacked)
        for adapters, is_stacked in ((placed, True), (plain, False))
    )
    assert torch.allclose(found, expected, atol=1e-4)


def test_steps_without_adapters_have_no_hooks_and_give_the_same_bits(world: World) -> None:
    world.logits(rows_of([world.place(0), None]))
    num_with = world.num_hooks()
    without = rows_of([None, None])
    logits = world.logits(without)
    assert num_with - world.num_hooks() == len(world.stacks.by_linear)
    assert torch.equal(logits, world.logits(without, is_stacked=False))


def test_tables_stay_where_they_are_and_nothing_of_an_earlier_step_is_left_in_them(world: World) -> None:
    placed = world.place(0)
    groups = world.stacked._groups
    addresses = [tensor.data_ptr() for tensor in groups]
    num_items = []
    for adapters in ([placed, placed, placed], [None, placed]):
        with world.stacked.applied(rows_of(adapters)):
            num_items.append(int((groups.items.view(-1, ITEM_FIELDS)[:, 0] >= 0).sum()))
    assert num_items == [2, 1]
    assert world.stacked.is_replayable
    assert [tensor.data_ptr() for tensor in world.stacked._groups] == addresses


def test_loads_and_unloads_between_steps(world: World) -> None:
    expected = {
        number: world.logits(rows_of([world.tiny.adapter(directory)]), is_stacked=False)
        for number, directory in enumerate(world.directories)
    }
    kept = world.place(0)
    for number in (1, 2, 1, 2):
        placed = world.place(number)
        assert torch.allclose(world.logits(rows_of([placed])), expected[number], atol=1e-4)
        assert torch.allclose(world.logits(rows_of([kept])), expected[0], atol=1e-4)
        del placed


def test_a_full_batch_fits_and_its_memory_is_counted(world: World) -> None:
    placed = [world.place(number) for number in (0, 1)]
    rows = rows_of([placed[0], *[placed[i % 2] for i in range(MAX_BATCH_TOKENS - 37)]])
    with world.stacked.applied(rows):
        assert int((world.stacked._groups.tokens >= 0).sum()) == MAX_BATCH_TOKENS
    assert world.stacked.size_bytes > world.stacks.size_bytes


def test_warming_up_launches_for_every_layer_and_changes_nothing(world: World) -> None:
    rows = rows_of([world.place(0)])
    before = world.logits(rows)
    num_launches = world.kernels.num_launches
    world.stacked.warm_up()
    assert world.kernels.num_launches - num_launches == len(world.stacks.by_linear)
    assert torch.equal(world.logits(rows), before)
