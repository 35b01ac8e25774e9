"""Every byte of every device that is promised to someone: reservations by device and owner.

Only the supervisor writes it. It never overcommits: a reservation that does not fit is a bug of the caller and raises.
"""

from collections.abc import Iterable

from appliance.orchestrator.gpus import Device

FOREIGN_OWNER = "other processes"


class Overcommitted(Exception):
    """Somebody tried to promise memory that is not free."""


class Ledger:
    def __init__(self, devices: Iterable[Device]) -> None:
        self._memory_bytes = {device.id: device.memory_bytes for device in devices}
        self._reserved_bytes: dict[str, dict[str, int]] = {}
        """By owner, then device."""
        self._foreign_bytes: dict[str, int] = {}

    def reserve(self, owner: str, device_ids: list[str], num_bytes: int) -> None:
        """Promise `num_bytes` on each device, or on none: raises Overcommitted and changes nothing."""
        assert owner not in self._reserved_bytes, f"{owner} holds a reservation already"
        assert num_bytes > 0, f"{owner} reserves {num_bytes} bytes"
        for device_id in device_ids:
            if num_bytes > (free_bytes := self.free_bytes(device_id)):
                raise Overcommitted(f"{owner} asks {num_bytes} bytes of {device_id}, {free_bytes} are free")
        self._reserved_bytes[owner] = dict.fromkeys(device_ids, num_bytes)

    def release(self, owner: str) -> None:
        """Only after the owner's process is gone and its memory is back; an unknown owner is ignored."""
        self._reserved_bytes.pop(owner, None)

    def observe_foreign(self, device_id: str, num_bytes: int) -> None:
        """What processes that are not ours hold; it may eat into reservations, which stay as they are."""
        self._foreign_bytes[device_id] = num_bytes

    def free_bytes(self, device_id: str) -> int:
        return max(0, self._memory_bytes[device_id] - sum(self.by_owner(device_id).values()))

    def free(self) -> dict[str, int]:
        return {device_id: self.free_bytes(device_id) for device_id in self._memory_bytes}

    def by_owner(self, device_id: str) -> dict[str, int]:
        """Who holds what on a device."""
        held = {
            owner: by_device[device_id] for owner, by_device in self._reserved_bytes.items() if device_id in by_device
        }
        if foreign_bytes := self._foreign_bytes.get(device_id, 0):
            held[FOREIGN_OWNER] = foreign_bytes
        return held
