"""What displays are told of replicas, devices and host memory: copies, never to decide on."""

import msgspec

from appliance.domain import ReplicaState
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.replica import Replica
from runtime.protocol import Heartbeat, LoadProgress


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    state: ReplicaState
    reason: str
    """Why its last worker ended unasked."""
    device_ids: tuple[str, ...] = ()
    reserved_bytes: int
    """On each of its devices; while it sleeps, or when it has given up, what it had."""
    held_bytes: int = 0
    """In the ledger now, on each of its devices."""
    host_bytes: int = 0
    """While ASLEEP: what it holds of the host's memory."""
    footprint_bytes: int | None = None
    """Measured when it had loaded, on each device."""
    revision: int = 1
    pid: int | None
    num_in_flight: int
    ready_at: float | None = None
    """When it last became READY."""
    idle_since: float | None = None
    """When its last request ended, or it became READY; None while it has one."""
    load_s: float | None = None
    """From the start of its worker to READY."""
    load_ms: dict[str, float] = {}
    """As its worker measured them: stages of the load, in their order."""
    is_warm: bool = False
    """Whether it began as a spare worker."""
    is_leaving: bool = False
    """Was asked to stop, or to sleep, and has not arrived there."""
    has_given_up: bool = False
    progress: LoadProgress | None
    heartbeat: Heartbeat | None
    log_tail: list[str]
    """Its worker's last words; for operators, since they may hold paths."""


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    device: Device
    by_owner: dict[str, int]
    """Bytes that are promised, foreign processes and memory not given back among them."""
    foreign_bytes: int
    free_bytes: int


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """Host memory for weights of models that sleep or have stopped."""

    host_bytes: int
    """That may be used for it."""
    by_owner: dict[str, int]


def view_replica(replica: Replica) -> ReplicaView:
    vitals = replica.client.vitals if replica.client is not None else None
    measurement = replica.measurement
    return ReplicaView(
        index=replica.plan.index,
        state=replica.state,
        reason=replica.reason,
        device_ids=tuple(replica.plan.device_ids),
        reserved_bytes=replica.plan.reserved_bytes,
        held_bytes=replica.held_bytes,
        host_bytes=0 if replica.holds_devices else replica.host_bytes,
        footprint_bytes=measurement.loaded.footprint_bytes if measurement is not None else None,
        revision=replica.plan.revision,
        pid=replica.worker.pid if replica.worker is not None else None,
        num_in_flight=replica.load,
        ready_at=replica.ready_at,
        idle_since=replica.idle_since,
        load_s=measurement.load_s if measurement is not None else None,
        load_ms=measurement.loaded.load_ms if measurement is not None else {},
        is_warm=measurement is not None and measurement.is_warm,
        is_leaving=replica.is_leaving,
        has_given_up=replica.has_given_up,
        progress=vitals.progress if vitals is not None else None,
        heartbeat=vitals.heartbeat if vitals is not None else None,
        log_tail=replica.last_words,
    )


def view_device(device: Device, ledger: Ledger) -> DeviceView:
    return DeviceView(
        device=device,
        by_owner=ledger.by_owner(device.id),
        foreign_bytes=ledger.foreign_bytes(device.id),
        free_bytes=ledger.free_bytes(device.id),
    )


def view_host(ledger: Ledger) -> HostView:
    return HostView(host_bytes=ledger.host_bytes, by_owner=ledger.host_by_owner())
