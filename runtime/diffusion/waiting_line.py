"""Pictures that wait to be begun, shared out between tenants by the pixels computed for each. No clock, no torch.

The next is the first of the tenant that was served least. Others of the same shape as what is being computed may pass
it, for a place in a batch costs little, but only so many: then nothing joins until its turn has come.
"""

from collections import deque
from collections.abc import Iterator

from runtime.diffusion.request import BatchKey, DrawRequest

PASSES_MAX = 8


class Waiting:
    """One picture of a request."""

    def __init__(self, request: DrawRequest, index: int) -> None:
        self.request = request
        self.index = index
        self.num_passes = 0
        """How many that came later were begun before it while it was next."""


class WaitingLine:
    def __init__(self) -> None:
        self._lines: dict[str, deque[Waiting]] = {}
        """By tenant, never empty."""
        self._served: dict[str, int] = {}
        """Pixels times steps, by tenant that waits; one that had nothing waiting starts level with the least."""
        self._level = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def append(self, waiting: Waiting) -> None:
        tenant = waiting.request.tenant
        if tenant not in self._lines:
            self._lines[tenant] = deque()
            self._served[tenant] = max(self._served.get(tenant, 0), self._level)
        self._lines[tenant].append(waiting)

    def take(self, key: BatchKey | None) -> Waiting | None:
        """The next to begin; with a key, the next that can join pictures of that shape, if it may."""
        first = self._next()
        if first is None or key is None or first.request.batch_key == key:
            return self._taken(first)
        if first.num_passes >= PASSES_MAX:
            return None
        joining = next((waiting for waiting in self._in_turn() if waiting.request.batch_key == key), None)
        if joining is not None:
            first.num_passes += 1
        return self._taken(joining)

    def remove(self, request: DrawRequest) -> None:
        """All of its pictures that wait."""
        line = self._lines.get(request.tenant)
        if line is None:
            return
        kept = deque(waiting for waiting in line if waiting.request is not request)
        self._lines[request.tenant] = kept
        self._tidy(request.tenant)

    def _next(self) -> Waiting | None:
        return next(self._in_turn(), None)

    def _in_turn(self) -> Iterator[Waiting]:
        """Of tenants served alike, the one that has waited longest comes first."""
        for tenant in sorted(self._lines, key=self._served.__getitem__):
            yield from self._lines[tenant]

    def _taken(self, waiting: Waiting | None) -> Waiting | None:
        if waiting is None:
            return None
        request = waiting.request
        self._level = min(self._served[tenant] for tenant in self._lines)
        self._served[request.tenant] += request.num_pixels * request.num_steps
        self._lines[request.tenant].remove(waiting)
        self._tidy(request.tenant)
        return waiting

    def _tidy(self, tenant: str) -> None:
        """Tenants who are gone, and below the level anyway, are forgotten: they do not add up."""
        if not self._lines[tenant]:
            del self._lines[tenant]
        self._served = {
            other: served for other, served in self._served.items() if other in self._lines or served > self._level
        }
