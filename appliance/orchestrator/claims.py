"""Tenants of the ledger that are no replicas: leases of programs outside Hearth, and jobs.

A claim waits until a plan grants it, holds its memory until it is released, and may be asked to give it back earlier.
Whether and where it is granted is decided in `planning.py`.
"""

import asyncio
from collections.abc import Callable

from appliance.orchestrator.fleet import ClaimFact, Demand, Explanation, Priority
from appliance.orchestrator.ledger import Ledger


class Claim:
    """Made by `Supervisor.claim`. Whoever asked for it releases it, granted or not."""

    def __init__(
        self,
        owner: str,
        account_id: str,
        priority: Priority,
        demand: Demand,
        may_evict: bool,
        release: Callable[["Claim"], None],
    ) -> None:
        self.owner = owner
        """Its name in the ledger."""
        self.account_id = account_id
        self.priority = priority
        self.demand = demand
        self.may_evict = may_evict
        self.device_ids: tuple[str, ...] = ()
        self.num_bytes = 0
        """On each of its devices, once granted."""
        self.asked_back = asyncio.Event()
        """Set when somebody of higher priority needs the memory: stop what runs, then release."""
        self.asked_back_reason = ""
        self.explanation: Explanation | None = None
        """Why it waits."""
        self.waiting_since: float | None = None
        self._release = release
        self._granted = asyncio.Event()

    @property
    def is_granted(self) -> bool:
        return self._granted.is_set()

    async def granted(self) -> list[str]:
        """Wait for its memory; returns the devices that it is on."""
        await self._granted.wait()
        return list(self.device_ids)

    def release(self) -> None:
        """Its memory is free again; said twice it changes nothing."""
        self._release(self)

    def grant(self, device_ids: tuple[str, ...], num_bytes: int) -> None:
        self.device_ids, self.num_bytes = device_ids, num_bytes
        self.waiting_since = self.explanation = None
        self._granted.set()

    def ask_back(self, reason: str) -> None:
        self.asked_back_reason = reason
        self.asked_back.set()

    def fact(self) -> ClaimFact:
        return ClaimFact(
            self.owner,
            self.priority,
            self.demand,
            self.may_evict,
            self.waiting_since,
            self.device_ids,
            is_leaving=self.asked_back.is_set(),
        )


class Claims:
    def __init__(self, ledger: Ledger, notify: Callable[[], None]) -> None:
        self._ledger = ledger
        self._notify = notify
        self._by_owner: dict[str, Claim] = {}

    def add(
        self, owner: str, account_id: str, priority: Priority, demand: Demand, may_evict: bool, now: float
    ) -> Claim:
        assert owner not in self._by_owner, f"{owner} has a claim already"
        claim = self._by_owner[owner] = Claim(owner, account_id, priority, demand, may_evict, self._release)
        claim.waiting_since = now
        self._notify()
        return claim

    def get(self, owner: str) -> Claim | None:
        return self._by_owner.get(owner)

    def all(self) -> list[Claim]:
        return list(self._by_owner.values())

    def leased_bytes(self, device_id: str) -> int:
        """Of a device, by programs outside Hearth, whose processes nobody here knows."""
        leases = (claim for claim in self._by_owner.values() if claim.priority is Priority.LEASE)
        return sum(claim.num_bytes for claim in leases if device_id in claim.device_ids)

    def _release(self, claim: Claim) -> None:
        if self._by_owner.get(claim.owner) is claim:
            del self._by_owner[claim.owner]
            self._ledger.release(claim.owner)
            self._notify()
