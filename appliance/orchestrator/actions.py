"""Carrying out a plan: one method for each action. What gives way at once gives way here.

A plan counts spare workers and weights kept for later as free memory; before something is reserved that needs it, they
are ended or dropped. An action that finds the fleet changed since the plan was made is left to the next plan.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import assert_never

from appliance.config import FleetSettings
from appliance.domain import Deployment
from appliance.orchestrator.assignment import Place, assign
from appliance.orchestrator.claims import Claims
from appliance.orchestrator.fleet import Action, Evict, Grant, Sleep, Start, Stop, Wake, Yield
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.group import Group
from appliance.orchestrator.ledger import Ledger, Overcommitted
from appliance.orchestrator.requirements import Requirement
from appliance.orchestrator.roster import Roster
from appliance.orchestrator.spares import Spares
from appliance.orchestrator.weight_cache import WeightCache, Weights

logger = logging.getLogger(__name__)

TellEvict = Callable[[Deployment, int, str], Awaitable[None]]


class Actions:
    def __init__(
        self,
        settings: FleetSettings,
        devices: Sequence[Device],
        ledger: Ledger,
        roster: Roster,
        claims: Claims,
        spares: Spares,
        weight_cache: WeightCache,
    ) -> None:
        self._settings = settings
        self._devices = {device.id: device for device in devices}
        self._ledger = ledger
        self._roster = roster
        self._claims = claims
        self._spares = spares
        self._weight_cache = weight_cache

    def yielding_bytes(self) -> dict[str, int]:
        """By device: what gives way at once."""
        cached = self._weight_cache.held_bytes
        return {
            device_id: self._spares.held_bytes(device_id) + (cached if self._ledger.is_host(device_id) else 0)
            for device_id in self._devices
        }

    async def carry_out(
        self, actions: Sequence[Action], requirements: Mapping[str, Requirement], evict: TellEvict
    ) -> None:
        """In order. `requirements`: of the deployments that the plan starts replicas of."""
        groups = {group.deployment.name: group for group in self._roster}
        for action in actions:
            logger.info("plan: %s", action)
            try:
                await self._carry_out(action, groups, requirements, evict)
            except Overcommitted as error:
                logger.info("not now: %s", error)
            except Exception:
                logger.exception("carrying out %s failed", action)

    async def _carry_out(
        self, action: Action, groups: Mapping[str, Group], requirements: Mapping[str, Requirement], evict: TellEvict
    ) -> None:
        match action:
            case Start():
                await self._start(action, groups[action.deployment], requirements[action.deployment])
            case Wake(deployment=name, index=index):
                replica = groups[name].replicas[index]
                await self._make_room(replica.plan.device_ids, replica.plan.reserved_bytes)
                self._roster.wake(replica)
            case Stop(deployment=name, index=index, drain_s=drain_s):
                self._stop(groups[name], index, drain_s)
            case Sleep(deployment=name, index=index):
                self._roster.put_to_sleep(groups[name].replicas[index])
            case Evict(deployment=name, to_count=to_count, reason=reason):
                await evict(groups[name].deployment, to_count, reason)
            case Grant():
                await self._grant(action)
            case Yield(owner=owner, reason=reason):
                if (claim := self._claims.get(owner)) is not None:
                    claim.ask_back(reason)
            case _:
                assert_never(action)

    async def _start(self, action: Start, group: Group, requirement: Requirement) -> None:
        devices = tuple(self._devices[device_id] for device_id in action.device_ids)
        await self._make_room(action.device_ids, action.num_bytes)
        plan = assign(
            group.deployment,
            requirement.served,
            requirement.draft,
            Place(action.index, devices, action.num_bytes),
            self._settings,
            num_devices=len(self._devices),
            footprint_key=requirement.footprint_key,
            fixed_bytes=requirement.fixed_bytes,
        )
        self._roster.start(group, plan)
        served = requirement.served
        self._weight_cache.keep(Weights.of(group.deployment.base_model, served.directory, served.info))

    def _stop(self, group: Group, index: int, drain_s: float | None) -> None:
        replica = group.replicas[index]
        if replica.has_given_up:
            del group.replicas[index]
        else:
            replica.stop(drain_s)

    async def _grant(self, action: Grant) -> None:
        await self._make_room(action.device_ids, action.num_bytes)
        claim = self._claims.get(action.owner)  # whoever asked may have left meanwhile
        if claim is not None and not claim.is_granted:
            self._ledger.reserve(action.owner, action.device_ids, action.num_bytes)
            claim.grant(action.device_ids, action.num_bytes)

    async def _make_room(self, device_ids: Sequence[str], num_bytes: int) -> None:
        """Of what gives way, and only as far as it must: weights first, for a spare worker saves more time."""
        for device_id in device_ids:
            if self._ledger.is_host(device_id) and (lacking := num_bytes - self._ledger.free_bytes(device_id)) > 0:
                self._weight_cache.shrink_to(max(0, self._weight_cache.held_bytes - lacking))
        tight = [device_id for device_id in device_ids if self._ledger.free_bytes(device_id) < num_bytes]
        if any(self._spares.held_bytes(device_id) for device_id in tight):
            await self._spares.make_room(tight)
