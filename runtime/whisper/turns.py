"""Whose window is heard next: tenants, and within a tenant its requests, by what each was given so far.

Whoever has had the least is next, so that a short file does not wait for a long one, nor a conversation for either. A
newcomer starts level with the one that has had the least. No clock, no log, no model.
"""

from collections.abc import Callable


class Turns:
    """Of request ids; a window counts as one, however long it is: the model takes as long for it."""

    def __init__(self) -> None:
        self._tenants: dict[str, dict[str, int]] = {}
        """By tenant its requests, in the order in which they came, and the windows each was given."""
        self._given: dict[str, int] = {}
        """By tenant."""

    def join(self, tenant: str, request_id: str) -> None:
        if tenant not in self._tenants:
            self._given[tenant] = min(self._given.values(), default=0)
            self._tenants[tenant] = {}
        requests = self._tenants[tenant]
        requests[request_id] = min(requests.values(), default=0)

    def leave(self, tenant: str, request_id: str) -> None:
        """Unknown ones are ignored."""
        requests = self._tenants.get(tenant, {})
        requests.pop(request_id, None)
        if tenant in self._tenants and not requests:
            del self._tenants[tenant], self._given[tenant]

    def pick(self, has_window: Callable[[str], bool]) -> str | None:
        """The request that is next, whose turn this counts as; None: no request has a window."""
        for tenant in sorted(self._tenants, key=self._given.__getitem__):
            requests = self._tenants[tenant]
            request_id = min(filter(has_window, requests), key=requests.__getitem__, default=None)
            if request_id is not None:
                requests[request_id] += 1
                self._given[tenant] += 1
                return request_id
        return None

    def num_requests(self, tenant: str) -> int:
        return len(self._tenants.get(tenant, {}))
