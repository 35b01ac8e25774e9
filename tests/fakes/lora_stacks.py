"""Random adapters of one linear layer that computes several side by side, plain and in slots; and plain kernels."""

from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import nn

from runtime.llm.adapters.adapter import LoraAdapter, LowRankChange, Widening
from runtime.llm.adapters.grouping import ITEM_FIELDS, group_tokens, num_items_max
from runtime.llm.adapters.places import Place
from runtime.llm.adapters.stacks import AdapterStacks, Groups, LoraKernels, LoraStack
from runtime.llm.linear import Linear


class StackedLayer:
    """`parts`: of the layers that are one product, how many outputs each has."""

    def __init__(
        self,
        width: int,
        parts: list[int],
        *,
        num_slots: int = 4,
        rank_max: int = 64,
        dtype: torch.dtype = torch.float32,
        device: torch.device,
    ) -> None:
        sources: list[nn.Linear] = [nn.Linear(width, part, bias=False) for part in parts]
        self.linear = Linear(sources, lambda weight: None)
        self.width, self.num_outputs = width, sum(parts)
        self._dtype, self._device = dtype, device
        starts = list(accumulate(parts, initial=0))
        places = {str(i): Place(self.linear, start, stop) for i, (start, stop) in enumerate(pairwise(starts))}
        self._places = list(places.values())
        self.stacks = AdapterStacks(
            places,
            {str(i): (part, width) for i, part in enumerate(parts)},
            num_slots=num_slots,
            rank_max=rank_max,
            dtype=dtype,
            device=device,
        )

    @property
    def stack(self) -> LoraStack:
        return self.stacks.by_linear[self.linear]

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape).to(self._device, self._dtype)

    def adapter(self, rank: int, parts: list[int]) -> LoraAdapter:
        """Of these parts."""
        widenings = []
        for part in parts:
            start, stop = self._places[part].start, self._places[part].stop
            widenings.append(Widening(start, stop, 0.3 * self.random(rank, stop - start)))
        narrowing = 0.1 * self.random(rank * len(parts), self.width)
        return LoraAdapter({self.linear: LowRankChange(narrowing, widenings)}, {"rank": str(rank)})

    def groups(self, slots: list[int], kernels: LoraKernels, num_tokens_max: int) -> Groups:
        num_slots = self.stacks.num_slots
        grouping = group_tokens(np.array(slots, dtype=np.int32), num_slots, num_items_max(num_tokens_max, num_slots))
        partials = torch.full((kernels.num_partials(self.stack, num_tokens_max),), float("nan"))
        items, tokens = (torch.from_numpy(table.reshape(-1)).to(self._device) for table in grouping)
        return Groups(items, tokens, partials.to(self._device))


class PlainKernels:
    """Item by item, as the kernels' programs do."""

    def __init__(self) -> None:
        self.num_launches = 0

    def add(self, outputs: torch.Tensor, inputs: torch.Tensor, stack: LoraStack, groups: Groups) -> None:
        self.num_launches += 1
        for slot, first, count in groups.items.view(-1, ITEM_FIELDS).tolist():
            if slot < 0:
                continue
            rows = groups.tokens[first : first + count].long()
            for part, start, stop in stack.tiles.tolist():
                rank = int(stack.ranks[slot, part])
                narrow = inputs[rows] @ stack.narrowing[slot, part, :rank].t()
                outputs[rows, start:stop] += narrow @ stack.widening[slot, :rank, start:stop]

    def num_partials(self, stack: LoraStack, num_tokens_max: int) -> int:
        return 1
