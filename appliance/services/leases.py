"""Leases: device memory lent to programs outside Hearth. The only writer of their rows.

A lease ends when its holder gives it back, when its time is over, or when nothing was heard of its holder for a
while; the memory is free for others from then on. One that a killed daemon left behind is taken up again at start, so
that a program which runs on keeps what it was promised.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol

import msgspec

from appliance.config import FleetSettings, IdentitySettings
from appliance.domain import Lease, Principal, Role
from appliance.errors import Code, HearthError
from appliance.names import generate_id
from appliance.orchestrator.fleet import Demand, Explanation, Priority
from appliance.services import audit
from appliance.services.access import not_found
from appliance.store import leases
from appliance.store.database import Database

logger = logging.getLogger(__name__)


class Claim(Protocol):
    """A tenant's place in the ledger, wanted or held."""

    @property
    def explanation(self) -> Explanation | None: ...

    async def granted(self) -> list[str]: ...

    def release(self) -> None: ...


class Claims(Protocol):
    """What leases need of the supervisor."""

    def claim(self, owner: str, account_id: str, priority: Priority, demand: Demand, may_evict: bool) -> Claim: ...


class LeaseAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to borrow."""

    num_bytes: int
    """On each device."""
    duration_s: float
    accelerator_type: str | None = None
    accelerator_count: int = 1
    command: str = ""
    wait_s: float = 0.0


class _Held(NamedTuple):
    lease: Lease
    claim: Claim
    heard_at: float
    """Of the event loop's clock."""


class Leases:
    def __init__(
        self,
        database: Database,
        claims: Claims,
        settings: FleetSettings,
        identity: IdentitySettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._claims = claims
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._held: dict[str, _Held] = {}

    async def restore(self) -> None:
        """Reserve again what is still lent; before anything else is placed, so that there is room."""
        async with self._database.reader() as db:
            rows = [lease for lease in await leases.list_all(db) if lease.id not in self._held]
        for lease in rows:
            demand = Demand(lease.num_bytes, None, len(lease.device_ids), tuple(lease.device_ids))
            claim = self._claims.claim(_owner(lease.id), lease.account_id, Priority.LEASE, demand, may_evict=True)
            self._hold(lease, claim)
        await self.sweep()

    async def take(self, principal: Principal, ask: LeaseAsk) -> Lease:
        """Returns when the memory is there; raises `unavailable` with the reason when it is not in time."""
        self._require_local(principal)
        self._check(ask)
        lease_id = generate_id()
        demand = Demand(ask.num_bytes, ask.accelerator_type, ask.accelerator_count)
        claim = self._claims.claim(_owner(lease_id), principal.account_id, Priority.LEASE, demand, may_evict=True)
        with ExitStack() as undo:
            undo.callback(claim.release)
            device_ids = await _wait_for(claim, ask.wait_s)
            async with self._database.transaction() as tx:
                lease = Lease(
                    id=lease_id,
                    account_id=principal.account_id,
                    user_id=principal.user_id,
                    device_ids=device_ids,
                    num_bytes=ask.num_bytes,
                    command=ask.command,
                    created_at=tx.now,
                    expires_at=tx.now + ask.duration_s,
                )
                await leases.insert(tx, lease)
                await audit.record(tx, principal, lease.name, _given(ask))
            undo.pop_all()
        self._hold(lease, claim)
        return lease

    def list(self, principal: Principal) -> "Sequence[Lease]":
        """Those of the principal's own account."""
        return [held.lease for held in self._held.values() if held.lease.account_id == principal.account_id]

    def renew(self, principal: Principal, lease_id: str) -> Lease:
        """The holder is alive."""
        held = self._find(principal, lease_id)
        self._hold(held.lease, held.claim)
        return held.lease

    async def end(self, principal: Principal, lease_id: str) -> None:
        lease = self._find(principal, lease_id).lease
        async with self._database.transaction() as tx:
            await leases.delete(tx, lease.id)
            await audit.record(tx, principal, lease.name)
        self._release(lease, "given back")

    async def sweep(self) -> None:
        """Take back what is over and what nobody answers for."""
        now = asyncio.get_running_loop().time()
        for held in [*self._held.values()]:
            if now - held.heard_at > self._settings.lease_keepalive_s:
                await self._take_back(held.lease, "its holder was not heard of")
            elif self._clock() >= held.lease.expires_at:
                await self._take_back(held.lease, "its time is over")

    # ---- within

    def _hold(self, lease: Lease, claim: Claim) -> None:
        self._held[lease.id] = _Held(lease, claim, asyncio.get_running_loop().time())

    async def _take_back(self, lease: Lease, why: str) -> None:
        async with self._database.transaction() as tx:
            await leases.delete(tx, lease.id)
            await audit.record_own_act(tx, "DeleteLease", lease.name, why)
        self._release(lease, why)

    def _release(self, lease: Lease, why: str) -> None:
        held = self._held.pop(lease.id, None)
        if held is not None:
            held.claim.release()
            logger.info("lease %s of %s: %s", lease.id, lease.command or "a program", why)

    def _find(self, principal: Principal, lease_id: str) -> _Held:
        held = self._held.get(lease_id)
        if held is None or held.lease.account_id != principal.account_id:
            raise not_found(f"lease {lease_id}")
        if principal.role is not Role.ADMIN and held.lease.user_id != principal.user_id:
            raise HearthError(Code.FORBIDDEN, f"lease {lease_id} belongs to another user")
        return held

    def _require_local(self, principal: Principal) -> None:
        if principal.account_id != self._identity.account_id:
            raise HearthError(Code.FORBIDDEN, "only users of this machine's own account may borrow its memory")

    def _check(self, ask: LeaseAsk) -> None:
        if ask.num_bytes <= 0:
            raise HearthError(Code.INVALID, "memoryBytes: more than 0", "memoryBytes")
        if ask.accelerator_count < 1:
            raise HearthError(Code.INVALID, "acceleratorCount: 1 or more", "acceleratorCount")
        if not 0 < ask.duration_s <= self._settings.lease_max_s:
            message = f"duration: more than 0 and at most {self._settings.lease_max_s:g} s (the setting lease_max_s)"
            raise HearthError(Code.INVALID, message, "duration")


async def _wait_for(claim: Claim, wait_s: float) -> list[str]:
    try:
        async with asyncio.timeout(wait_s):
            return await claim.granted()
    except TimeoutError:
        why = "no look was taken yet" if claim.explanation is None else claim.explanation.reason
        raise HearthError(Code.UNAVAILABLE, f"there is no room for the lease: {why}", reason="NO_ROOM") from None


def _given(ask: LeaseAsk) -> list[str]:
    return ["memoryBytes", "duration", *(["acceleratorType"] if ask.accelerator_type else [])]


def _owner(lease_id: str) -> str:
    return f"leases/{lease_id}"
