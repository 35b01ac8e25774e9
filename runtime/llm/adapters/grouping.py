"""Which program of the LoRA kernels computes what: tables of one step, made on the host. Pure; knows no device."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int32]

ITEM_FIELDS = 3
"""Of one program: the adapter's slot (-1: there is nothing to do), its first place in `tokens`, how many it has."""
ROWS = 32
"""Tokens of one item at most."""


class Grouping(NamedTuple):
    items: Table
    """[items, ITEM_FIELDS], as many as there can be."""
    tokens: Table
    """Those that have an adapter, by slot."""


def num_items_max(num_tokens: int, num_slots: int) -> int:
    """Of a batch of so many tokens: each slot may have one item that is not full."""
    return min(num_tokens, num_tokens // ROWS + num_slots)


def group_tokens(slots: Table, num_slots: int, num_items: int) -> Grouping:
    """`slots`: by token of the batch; -1 for one without adapter."""
    tokens = np.argsort(slots, kind="stable").astype(np.int32)[np.count_nonzero(slots < 0) :]
    counts = np.bincount(slots[tokens], minlength=num_slots)
    firsts = np.cumsum(counts) - counts
    num_tiles = -(-counts // ROWS)
    slot = np.repeat(np.arange(num_slots), num_tiles)
    number = np.arange(len(slot)) - np.repeat(np.cumsum(num_tiles) - num_tiles, num_tiles)
    items = np.full((num_items, ITEM_FIELDS), -1, dtype=np.int32)
    items[: len(slot), 0] = slot
    items[: len(slot), 1] = firsts[slot] + number * ROWS
    items[: len(slot), 2] = np.minimum(counts[slot] - number * ROWS, ROWS)
    return Grouping(items, tokens)
