import numpy as np
import pytest

from runtime.llm.adapters.grouping import ROWS, group_tokens, num_items_max

NUM_SLOTS = 5


def grouped(slots: list[int]) -> tuple[list[list[int]], list[int]]:
    num_items = num_items_max(len(slots) + 3, NUM_SLOTS)
    grouping = group_tokens(np.array(slots, dtype=np.int32), NUM_SLOTS, num_items)
    assert len(grouping.items) == num_items
    return grouping.items.tolist(), grouping.tokens.tolist()


def test_tokens_of_a_slot_come_together_in_their_order() -> None:
    items, tokens = grouped([3, -1, 0, 3, 0, -1])
    assert tokens == [2, 4, 0, 3]
    assert items[:2] == [[0, 0, 2], [3, 2, 2]]
    assert all(item == [-1, -1, -1] for item in items[2:])


def test_many_tokens_of_a_slot_are_several_items() -> None:
    items, _ = grouped([1] * (2 * ROWS + 3) + [4])
    assert items[:4] == [[1, 0, ROWS], [1, ROWS, ROWS], [1, 2 * ROWS, 3], [4, 2 * ROWS + 3, 1]]


@pytest.mark.parametrize("slots", [[], [-1, -1]])
def test_without_adapters_there_is_nothing_to_do(slots: list[int]) -> None:
    items, tokens = grouped(slots)
    assert tokens == []
    assert {item[0] for item in items} == {-1}


@pytest.mark.parametrize("num_tokens", [1, 2, ROWS, 3 * ROWS + 1, 500])
def test_there_are_never_more_items_than_the_most(num_tokens: int) -> None:
    generator = np.random.default_rng(num_tokens)
    for _ in range(20):
        slots = generator.integers(-1, NUM_SLOTS, num_tokens).astype(np.int32)
        items, tokens = group_tokens(slots, NUM_SLOTS, num_items_max(num_tokens, NUM_SLOTS))
        assert sorted(tokens) == np.flatnonzero(slots >= 0).tolist()
        assert sum(item[2] for item in items if item[0] >= 0) == len(tokens)
        for slot, first, count in items[items[:, 0] >= 0]:
            assert (slots[tokens[first : first + count]] == slot).all()
