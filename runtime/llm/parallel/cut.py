"""Which part of a tensor, or of a count, is one process's when several share a model. Knows tensors, no models."""

from typing import NamedTuple

import torch


class Share(NamedTuple):
    """Of one process among those that compute a model together; rank 0 is the one that plans."""

    rank: int = 0
    size: int = 1

    def of(self, total: int) -> range:
        """Shares follow one another by rank, and differ by one at most."""
        return range(self.rank * total // self.size, (self.rank + 1) * total // self.size)


class Cut(NamedTuple):
    """Rows (dimension 0) or columns (1) of a matrix, or elements of a vector: these ranges, one after the other."""

    dimension: int
    ranges: tuple[range, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.ranges))

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view where it is one range."""
        parts = [tensor.narrow(self.dimension, each.start, len(each)) for each in self.ranges]
        return parts[0] if len(parts) == 1 else torch.cat(parts, self.dimension)
