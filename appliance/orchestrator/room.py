"""A plan's working copy of the devices: what is free, what is on its way back, and who could be asked for more. Pure.

Memory on its way back is promised to one claimant, so that the next one neither counts on it nor evicts for it.
Nobody is asked unless the claimant fits afterwards, and of those who could be asked the cheapest set is.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from appliance.config import FleetSettings
from appliance.orchestrator.claimants import Claimant
from appliance.orchestrator.fleet import Demand, Fleet
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.placement import Placement, groups_of_a_type, place, suitable
from appliance.orchestrator.tenants import Cost, Ease, Tenant, cost_of, num_dispensable, relative_obstacle, tenants_of


class Source(NamedTuple):
    """Memory that could come back."""

    cost: Cost
    owner: str
    device_ids: tuple[str, ...]
    num_bytes: int
    tenant: Tenant | None = None
    """None: it comes back by itself."""

    @classmethod
    def of(cls, tenant: Tenant) -> "Source":
        return cls(cost_of(tenant), tenant.owner, tenant.device_ids, tenant.num_bytes, tenant)

    @property
    def asked(self) -> Tenant:
        """Who gives it; a programming error for what comes back by itself."""
        assert self.tenant is not None
        return self.tenant


class Way(NamedTuple):
    """How a claimant gets room once these have given theirs back."""

    demand: Demand
    device_ids: tuple[str, ...]
    sources: tuple[Source, ...]

    @property
    def cost(self) -> list[Cost]:
        """The dearest first, so that sets compare by it."""
        return sorted((source.cost for source in self.sources), reverse=True)

    @property
    def ease(self) -> Ease:
        return max((source.cost.ease for source in self.sources), default=Ease.IDLE)


class Room:
    def __init__(self, fleet: Fleet, settings: FleetSettings) -> None:
        self.tenants = tenants_of(fleet, settings)
        self.free = dict(fleet.free_bytes)
        """Not promised to anyone."""
        self._devices = fleet.devices
        self._now = fleet.now
        self._max_wait_s = settings.max_wait_s
        self._returning: dict[str, int] = defaultdict(int)
        """Soon: its holders have nothing left to do."""
        self._slow: dict[str, int] = defaultdict(int)
        """Once its holders' requests have finished."""
        self._going = {tenant.owner for tenant in self.tenants if tenant.is_leaving}
        self._kept: set[str] = set()
        """Owners whom others may not ask, since somebody who waits is to have their place soon."""
        staying = sorted(Source.of(tenant) for tenant in self.tenants if not tenant.is_leaving)
        self._movable = [source for source in staying if not source.asked.obstacle]
        """The cheapest first."""
        self._settling = [source for source in staying if source.asked.passes_at is not None]
        self._num_dispensable = {
            source.asked.deployment.name: num_dispensable(source.asked.deployment)
            for source in self._movable
            if source.asked.deployment is not None
        }
        """By deployment; what is evicted in this plan is taken off."""
        for tenant in self.tenants:
            if tenant.is_leaving:
                self._expect(tenant)

    def is_going(self, owner: str) -> bool:
        return owner in self._going

    def note_leaving(self, owner: str) -> None:
        """A replica is stopped or put to sleep in this plan whoever waits."""
        for tenant in self.tenants:
            if tenant.owner == owner and owner not in self._going:
                self._going.add(owner)
                self._expect(tenant)

    def place(self, demand: Demand) -> Placement | None:
        return place(self._devices, self.free, demand)

    def take(self, placement: Placement) -> None:
        for device_id in placement.device_ids:
            self.free[device_id] -= placement.num_bytes

    def find_way(self, claimant: Claimant) -> Way | None:
        """To wake its sleeper, else to start it as modestly as it can live; each at the lowest cost.

        It is started elsewhere only if that takes those of greater ease, e.g. idle ones, not busy ones.
        """
        return self._find_way(claimant, self._sources(claimant))

    def keep_for(self, claimant: Claimant) -> None:
        """Let nobody else settle where it can have room soonest, when those there have had their minimum residency.

        Without this, one that needs a whole device would find somebody new there each time.
        """
        claimant = claimant._replace(is_urgent=True)
        later = [
            source
            for source in self._settling
            if source.owner not in self._kept and not relative_obstacle(source.asked, claimant, self._now)
        ]
        way = self._find_way(claimant, [*self._sources(claimant), *later])
        if way is None:
            return
        self._kept.update(source.owner for source in way.sources)
        for device_id in way.device_ids:
            owed = way.demand.num_bytes - sum(
                source.num_bytes for source in way.sources if device_id in source.device_ids
            )
            for pool in (self._returning, self.free):
                taken = max(0, min(owed, pool[device_id]))
                pool[device_id] -= taken
                owed -= taken

    def _find_way(self, claimant: Claimant, sources: Sequence[Source]) -> Way | None:
        demands = [claimant.demands[-1]] if claimant.sleeper is None else [claimant.demands[0], claimant.demands[-1]]
        ways = [
            way
            for demand in demands
            for group in groups_of_a_type(suitable(self._devices, demand))
            if (way := self._cheapest_way(demand, group, sources)) is not None
        ]
        is_waking = claimant.demands[0] if claimant.sleeper is not None else None
        return min(ways, key=lambda way: (way.ease, way.demand is not is_waking, way.cost), default=None)

    def promise(self, way: Way) -> list[Tenant]:
        """Keep it for the claimant; returns whom to ask."""
        asked = [source.tenant for source in way.sources if source.tenant is not None]
        for tenant in asked:
            self._going.add(tenant.owner)
            self._expect(tenant)
            if tenant.deployment is not None:
                self._num_dispensable[tenant.deployment.name] -= 1
        waits_for_slow = any(source.tenant is None or source.tenant.is_busy for source in way.sources)
        # What is free now goes last: others can use it meanwhile, if the claimant does not need it.
        pools = [self._returning, *([self._slow] if waits_for_slow else []), self.free]
        for device_id in way.device_ids:
            owed = way.demand.num_bytes
            for pool in pools:
                taken = min(owed, pool[device_id])
                pool[device_id] -= taken
                owed -= taken
            assert owed == 0, f"{device_id} was promised without having it"
        return asked

    def _expect(self, tenant: Tenant) -> None:
        pool = self._slow if tenant.is_busy else self._returning
        for device_id in tenant.device_ids:
            pool[device_id] += tenant.num_bytes

    def _sources(self, claimant: Claimant) -> list[Source]:
        """The cheapest first; of one deployment no more than its minimum leaves."""
        left = dict(self._num_dispensable)
        allowed = []
        for source in self._movable:
            if source.owner in self._going or source.owner in self._kept:
                continue
            if relative_obstacle(source.asked, claimant, self._now):
                continue
            if source.asked.deployment is not None:
                left[source.asked.deployment.name] -= 1
                if left[source.asked.deployment.name] < 0:
                    continue
            allowed.append(source)
        # Who has waited too long already does not wait for slow ones while there are others.
        ease = Ease.SLOW if claimant.waited_s > self._max_wait_s else Ease.IDLE
        slow = [
            Source(Cost(ease, -1, 0.0), device_id, (device_id,), num_bytes)
            for device_id, num_bytes in self._slow.items()
            if num_bytes
        ]
        return sorted(slow + allowed) if slow else allowed

    def _cheapest_way(self, demand: Demand, group: Sequence[Device], sources: Sequence[Source]) -> Way | None:
        """Device by device, each time the one that adds least to the cost; a source may serve several of them."""
        chosen: list[Source] = []
        picked: list[str] = []
        for _ in range(demand.accelerator_count):
            best: tuple[list[Cost], int, int, str, list[Source]] | None = None
            for device in group:
                if device.id in picked:
                    continue
                added = self._cover(device.id, demand.num_bytes, chosen, sources)
                if added is None:
                    continue
                spare = self.free[device.id] + self._returning[device.id]
                cost = sorted((source.cost for source in added), reverse=True)
                option = (cost, spare, device.index, device.id, added)
                best = option if best is None or option[:3] < best[:3] else best
            if best is None:
                return None
            picked.append(best[3])
            chosen += best[4]
        needed = self._without_superfluous(chosen, picked, demand.num_bytes)
        return Way(demand, tuple(picked), tuple(needed))

    def _cover(
        self, device_id: str, num_bytes: int, chosen: Sequence[Source], sources: Sequence[Source]
    ) -> list[Source] | None:
        """What must come back beside `chosen` for so much on one device; None: it cannot be had."""
        added: list[Source] = []
        missing = num_bytes - self._within_reach(device_id, chosen)
        for source in sources:
            if missing <= 0:
                break
            if device_id in source.device_ids and source not in chosen:
                added.append(source)
                missing -= source.num_bytes
        if missing > 0:
            return None
        everything = self._without_superfluous([*chosen, *added], [device_id], num_bytes)
        return [source for source in added if source in everything]

    def _without_superfluous(
        self, sources: Iterable[Source], device_ids: Sequence[str], num_bytes: int
    ) -> list[Source]:
        """The dearest are dropped first, where the others suffice without them."""
        kept = list(sources)
        for source in sorted(kept, reverse=True):
            rest = [other for other in kept if other is not source]
            if all(self._within_reach(device_id, rest) >= num_bytes for device_id in device_ids):
                kept = rest
        return kept

    def _within_reach(self, device_id: str, sources: Iterable[Source]) -> int:
        coming = sum(source.num_bytes for source in sources if device_id in source.device_ids)
        return self.free[device_id] + self._returning[device_id] + coming
