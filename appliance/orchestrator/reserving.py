"""What reservations mean for placement: which devices are closed to whom, and whose own ones go first. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from appliance.domain import Reservation
from appliance.orchestrator.fleet import Demand
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.placement import suitable

Holders = Mapping[str, str]
"""By device id: the account that it is held for now."""


def holders_of(reservations: Iterable[Reservation], now: float) -> Holders:
    return {
        device_id: reservation.account_id
        for reservation in reservations
        if reservation.holds_at(now)
        for device_id in reservation.device_ids
    }


def closed_to(account_id: str, holders: Holders) -> frozenset[str]:
    """Devices on which nothing of this account may be."""
    return frozenset(device_id for device_id, holder in holders.items() if holder != account_id)


def restrict(
    demands: Sequence[Demand], devices: Sequence[Device], account_id: str, holders: Holders
) -> tuple[Demand, ...]:
    """Each on the account's own devices first, then on those that are nobody's; empty: all that suit are closed."""
    if not holders:
        return tuple(demands)
    closed = closed_to(account_id, holders)
    restricted = []
    for demand in demands:
        open_ids = [device.id for device in suitable(devices, demand) if device.id not in closed]
        own_ids = [device_id for device_id in open_ids if device_id in holders]
        restricted += [msgspec.structs.replace(demand, device_ids=tuple(ids)) for ids in (own_ids, open_ids) if ids]
    return tuple(dict.fromkeys(restricted))
