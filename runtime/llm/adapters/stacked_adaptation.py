"""Adapters that lie in slots, applied by kernels: all of a step's in one pass over each linear layer.

Tables lie at the same place in every step and are as long as the largest step's. What is launched depends only on how
many tokens a batch has, and on whether any has an adapter: so a graph of CUDA that was captured inside `applied` may be
replayed inside it for any other rows with adapters, of as many tokens or fewer.
"""

from collections.abc import Sequence

import numpy as np
import torch

from runtime.llm.adapters.adaptation import Adaptation, AdaptedRow
from runtime.llm.adapters.grouping import ITEM_FIELDS, group_tokens, num_items_max
from runtime.llm.adapters.stacks import AdapterStacks, Groups, LoraKernels, SlottedAdapter
from runtime.llm.linear import Linear


class StackedAdaptation(Adaptation):
    is_replayable = True

    def __init__(
        self, stacks: AdapterStacks, kernels: LoraKernels, *, max_batch_tokens: int, device: torch.device
    ) -> None:
        super().__init__(stacks.by_linear, device)
        self._stacks = stacks
        self._kernels = kernels
        self._max_batch_tokens = max_batch_tokens
        self._num_items = num_items_max(max_batch_tokens, stacks.num_slots)
        item_size = self._num_items * ITEM_FIELDS
        self._table = torch.full((item_size + max_batch_tokens,), -1, dtype=torch.int32, device=device)
        num_partials = max(kernels.num_partials(stack, max_batch_tokens) for stack in stacks.by_linear.values())
        partials = torch.empty(num_partials, dtype=torch.float32, device=device)
        self._groups = Groups(self._table[:item_size], self._table[item_size:], partials)

    @property
    def size_bytes(self) -> int:
        return self._stacks.size_bytes + self._table.nbytes + self._groups.partials.nbytes

    def warm_up(self) -> None:
        """Compile the kernels for every layer, ahead of the first request with an adapter."""
        self._table.fill_(-1)
        for linear, stack in self._stacks.by_linear.items():
            inputs = stack.narrowing.new_zeros(1, stack.narrowing.shape[-1])
            self._add(linear, inputs, stack.widening.new_zeros(1, stack.widening.shape[-1]))

    def _begin(self, rows: Sequence[AdaptedRow]) -> bool:
        if all(row.adapter is None for row in rows):
            return False
        lengths = [len(row.token_ids) for row in rows]
        slots = np.repeat(np.array([_slot(row) for row in rows], dtype=np.int32), lengths)
        assert len(slots) <= self._max_batch_tokens
        grouping = group_tokens(slots, self._stacks.num_slots, self._num_items)
        size = grouping.items.size + grouping.tokens.size
        # torch keeps page-locked memory for later, and gives it away again only after the copy from it.
        staged = torch.empty(size, dtype=torch.int32, pin_memory=self._device.type == "cuda")
        np.concatenate([grouping.items.reshape(-1), grouping.tokens], out=staged.numpy())
        self._table[:size].copy_(staged, non_blocking=True)
        return True

    def _end(self) -> None:
        """The tables stay: kernels may still have to read them."""

    def _add(self, linear: Linear, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        self._kernels.add(outputs, inputs, self._stacks.by_linear[linear], self._groups)


def _slot(row: AdaptedRow) -> int:
    if row.adapter is None:
        return -1
    assert isinstance(row.adapter, SlottedAdapter), row.adapter
    return row.adapter.slot
