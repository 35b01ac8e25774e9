"""Every byte of every device, and of host memory kept for weights, that is promised to someone: by owner.

Only the orchestrator writes it. It never overcommits: a reservation that does not fit is a bug of the caller and
raises. On a box without GPUs the host is the device, and what is kept in host memory counts there too.
"""

from collections.abc import Iterable, Sequence

from appliance.orchestrator.gpus import CPU, Device

FOREIGN_OWNER = "other processes"
UNRETURNED_OWNER = "memory not given back"


class Overcommitted(Exception):
    """Somebody tried to promise memory that is not free."""


class Ledger:
    def __init__(self, devices: Iterable[Device], host_bytes: int = 0) -> None:
        """`host_bytes`: what may be kept in host memory for weights."""
        devices = list(devices)
        self.host_bytes = host_bytes
        self._memory_bytes = {device.id: device.memory_bytes for device in devices}
        self._host_device_id = next((device.id for device in devices if device.accelerator_type == CPU), None)
        self._reserved_bytes: dict[str, dict[str, int]] = {}
        """By owner, then device."""
        self._host_reserved_bytes: dict[str, int] = {}
        self._unreturned_bytes: dict[str, dict[int, int]] = {}
        """By device, then pid of the dead process that still holds it."""
        self._foreign_bytes: dict[str, int] = {}

    @property
    def is_host_a_device(self) -> bool:
        return self._host_device_id is not None

    def is_host(self, device_id: str) -> bool:
        """Whether what is kept in host memory counts on this device."""
        return device_id == self._host_device_id

    # ---- devices

    def reserve(self, owner: str, device_ids: Sequence[str], num_bytes: int) -> None:
        """Promise `num_bytes` on each device, or on none: raises Overcommitted and changes nothing."""
        assert owner not in self._reserved_bytes, f"{owner} holds a reservation already"
        assert num_bytes > 0, f"{owner} reserves {num_bytes} bytes"
        for device_id in device_ids:
            if num_bytes > (free_bytes := self.free_bytes(device_id)):
                raise Overcommitted(f"{owner} asks {num_bytes} bytes of {device_id}, {free_bytes} are free")
        self._reserved_bytes[owner] = dict.fromkeys(device_ids, num_bytes)

    def resize(self, owner: str, num_bytes: int) -> None:
        """On each of its devices; raises Overcommitted and changes nothing when it would grow beyond what is free."""
        held = self._reserved_bytes[owner]
        for device_id, held_bytes in held.items():
            if num_bytes - held_bytes > (free_bytes := self.free_bytes(device_id)):
                raise Overcommitted(f"{owner} asks {num_bytes - held_bytes} more of {device_id}, {free_bytes} are free")
        self._reserved_bytes[owner] = dict.fromkeys(held, num_bytes)

    def release(self, owner: str) -> None:
        """Only after the owner's process is gone and its memory is back; an unknown owner is ignored."""
        self._reserved_bytes.pop(owner, None)

    def write_off(self, owner: str, device_id: str, pid: int) -> None:
        """The owner's process is dead, and the driver has not given its memory of this device back."""
        if held := self._reserved_bytes.get(owner, {}).pop(device_id, 0):
            self._unreturned_bytes.setdefault(device_id, {})[pid] = held

    def recover(self, device_id: str, pid: int) -> None:
        """It has, at last."""
        self._unreturned_bytes[device_id].pop(pid)

    def unreturned(self) -> list[tuple[str, int]]:
        """Device and dead process, for each that was written off and has not recovered."""
        return [(device_id, pid) for device_id, by_pid in self._unreturned_bytes.items() for pid in by_pid]

    def observe_foreign(self, device_id: str, num_bytes: int) -> None:
        """What processes that are not ours hold; it may eat into reservations, which stay as they are."""
        self._foreign_bytes[device_id] = num_bytes

    def foreign_bytes(self, device_id: str) -> int:
        return self._foreign_bytes.get(device_id, 0)

    def free_bytes(self, device_id: str) -> int:
        return max(0, self._memory_bytes[device_id] - sum(self.by_owner(device_id).values()))

    def free(self) -> dict[str, int]:
        return {device_id: self.free_bytes(device_id) for device_id in self._memory_bytes}

    def by_owner(self, device_id: str) -> dict[str, int]:
        """Who holds what on a device."""
        held = {
            owner: by_device[device_id] for owner, by_device in self._reserved_bytes.items() if device_id in by_device
        }
        if device_id == self._host_device_id:
            for owner, num_bytes in self._host_reserved_bytes.items():
                held[owner] = held.get(owner, 0) + num_bytes
        if unreturned_bytes := sum(self._unreturned_bytes.get(device_id, {}).values()):
            held[UNRETURNED_OWNER] = unreturned_bytes
        if foreign_bytes := self._foreign_bytes.get(device_id, 0):
            held[FOREIGN_OWNER] = foreign_bytes
        return held

    # ---- host memory

    def reserve_host(self, owner: str, num_bytes: int) -> None:
        """Hold so much in place of what the owner held before; raises Overcommitted and changes nothing."""
        more_bytes = num_bytes - self._host_reserved_bytes.get(owner, 0)
        if more_bytes > (free_bytes := self.host_free_bytes()):
            raise Overcommitted(f"{owner} asks {more_bytes} bytes of host memory, {free_bytes} are free")
        self._host_reserved_bytes[owner] = num_bytes

    def release_host(self, owner: str) -> None:
        """An unknown owner is ignored."""
        self._host_reserved_bytes.pop(owner, None)

    def host_free_bytes(self) -> int:
        free_bytes = max(0, self.host_bytes - sum(self._host_reserved_bytes.values()))
        return free_bytes if self._host_device_id is None else min(free_bytes, self.free_bytes(self._host_device_id))

    def host_by_owner(self) -> dict[str, int]:
        return dict(self._host_reserved_bytes)
