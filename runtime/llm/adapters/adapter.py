"""One LoRA addon on its device: for each linear layer that it adapts, two matrices whose product it adds.

Never changed once it is made. Whoever uses one holds a reference to it: it lives as long as its last request.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import torch

from runtime.llm.linear import Linear

Rows = slice | torch.Tensor
"""Some rows of a flattened batch; a tensor of indices where they are not neighbours."""


class Widening(NamedTuple):
    """From some of the narrow columns to some of the output's."""

    start: int
    stop: int
    matrix: torch.Tensor
    """[rank, stop - start], multiplied by the addon's scale."""


class LowRankChange:
    """What is added to the output of one product: narrowed once for all layers that it computes side by side."""

    def __init__(self, narrowing: torch.Tensor, widenings: list[Widening]) -> None:
        self.narrowing = narrowing
        """[sum of ranks, inputs]"""
        self.widenings = widenings

    def add(self, inputs: torch.Tensor, outputs: torch.Tensor, rows: Rows) -> None:
        """In place; both are [tokens, …]."""
        narrow = inputs[rows] @ self.narrowing.t()
        changed = outputs[rows]
        first = 0
        for start, stop, matrix in self.widenings:
            changed[:, start:stop].addmm_(narrow[:, first : first + len(matrix)], matrix)
            first += len(matrix)
        if not isinstance(rows, slice):
            outputs.index_copy_(0, rows, changed)  # it was a copy


class LoraAdapter:
    def __init__(self, changes: dict[Linear, LowRankChange], file_sha256: Mapping[str, str]) -> None:
        self.changes = changes
        self.file_sha256 = dict(file_sha256)
        self.digest = blake2b(repr(sorted(file_sha256.items())).encode(), digest_size=32).digest()
        """Of its files: equal for equal addons, whatever they are called."""
