"""What holds devices: replicas, leases, reservations, and what replicas were measured to hold."""

from enum import StrEnum

from appliance.domain.nouns import Noun
from appliance.names import ResourceName


class ReplicaState(StrEnum):
    """One worker process's life; `orchestrator/replica.py` owns it and holds the table of transitions."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"  # process spawned, socket not yet greeted
    LOADING = "LOADING"  # worker reads weights
    READY = "READY"
    ASLEEP = "ASLEEP"  # process and weights stay in host memory; its devices' memory is given back
    DRAINING = "DRAINING"  # takes nothing new, finishes what runs
    STOPPING = "STOPPING"  # told to exit, or killed; waits for the process and its memory
    FAILED = "FAILED"  # ended unasked; waits for its back-off


class ReplicaRow(Noun, frozen=True, kw_only=True):
    """What must be known of a worker after the daemon died: enough to find and end a leftover, and no more."""

    account_id: str
    deployment_id: str
    index: int
    device_ids: list[str]
    reserved_bytes: int
    """Per device."""
    pid: int
    pid_started_ticks: int
    """Field 22 of /proc/PID/stat: with `boot_id` it tells this process from a later one with the same pid."""
    boot_id: str
    started_at: float


class Footprint(Noun, frozen=True, kw_only=True):
    """What a replica really held, measured when it had loaded; takes the place of the estimate the next time."""

    key: str
    """Digest of all that the footprint depends on: `orchestrator/footprints.py` makes it."""
    num_bytes: int
    """On each of its devices: process, weights and activations, and `kv_bytes`."""
    kv_bytes: int
    load_s: float
    """Running average of loads from a cold process, seconds from spawn to READY."""
    warm_load_s: float | None
    """Likewise of loads by a spare worker."""
    measured_at: float


class Lease(Noun, frozen=True, kw_only=True):
    """Memory of devices lent to a program outside Hearth until it gives it back or the time is over."""

    id: str
    account_id: str
    user_id: str
    device_ids: list[str]
    num_bytes: int
    """On each device."""
    command: str = ""
    """Shown to operators: the program that asked, without its arguments."""
    created_at: float
    expires_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "leases", self.id))


class Reservation(Noun, frozen=True, kw_only=True):
    """Devices held for one account for a time: nobody else's replicas and leases are placed on them."""

    account_id: str
    id: str
    display_name: str = ""
    description: str = ""
    accelerator_type: str
    device_ids: list[str]
    """Chosen when it was made."""
    starts_at: float
    ends_at: float | None = None
    """None: until it is deleted."""
    created_by: str = ""
    """User id in the account that keeps the box."""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "reservations", self.id))

    def holds_at(self, now: float) -> bool:
        return self.starts_at <= now and (self.ends_at is None or now < self.ends_at)
