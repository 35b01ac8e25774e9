"""The machine as a client sees it: devices, replicas and who holds what; leases of device memory.

Knows paths and fields, never sockets.
"""

from appliance.sdk.resources import Empty, Resource, Transport, resource_path

FLEET = "/v1/node/fleet"
LEASES = "/v1/node/leases"


class Holder(Resource, frozen=True, kw_only=True):
    """Who has reserved memory of a device."""

    owner: str
    memory_bytes: int = 0


class Device(Resource, frozen=True, kw_only=True):
    id: str
    accelerator_type: str = ""
    memory_bytes: int = 0
    free_bytes: int = 0
    holders: list[Holder] = []
    utilization: float | None = None
    """0 to 1."""
    power_watts: float | None = None
    temperature_celsius: float | None = None


class FleetReplica(Resource, frozen=True, kw_only=True):
    name: str
    """DEPLOYMENT/INDEX, the deployment by its full name."""
    base_model: str = ""
    state: str = ""
    device_ids: list[str] = []
    reserved_bytes: int = 0
    used_bytes: int | None = None
    """Measured after its load."""
    host_bytes: int = 0
    """Of the host's memory, while it is asleep."""
    process_id: int | None = None
    num_in_flight: int = 0
    idle_seconds: float | None = None
    until_time: str | None = None
    """When it goes to rest if nobody asks."""
    kept_by: str = ""
    """Why it stays: `busy`, `minReplicaCount 1`."""
    message: str = ""


class FleetDeployment(Resource, frozen=True, kw_only=True):
    """How a deployment does at this moment."""

    name: str
    base_model: str = ""
    state: str = ""
    desired_replica_count: int = 0
    ready_replica_count: int = 0
    num_in_flight: int = 0
    num_waiting: int = 0
    load: float = 0.0
    """Share of what its replicas can take, 0 to 1 and above."""
    requests_per_second: float = 0.0
    tokens_per_second: float = 0.0
    prompt_cache_hit_rate: float | None = None
    message: str = ""
    """What keeps it from serving fully."""


class Lease(Resource, frozen=True, kw_only=True):
    id: str
    device_ids: list[str] = []
    visible_devices: str = ""
    """For CUDA_VISIBLE_DEVICES; empty where there is no GPU."""
    memory_bytes: int = 0
    """On each device."""
    command: str = ""
    create_time: str | None = None
    expire_time: str | None = None
    keepalive_seconds: float = 0.0
    """Renew it at least this often."""


class Fleet(Resource, frozen=True, kw_only=True):
    devices: list[Device] = []
    host: Device | None = None
    """The host's memory for sleeping models, where it is not itself the device."""
    replicas: list[FleetReplica] = []
    deployments: list[FleetDeployment] = []
    leases: list[Lease] = []


class RoomCandidate(Resource, frozen=True, kw_only=True):
    """Something that could make room."""

    owner: str
    device_ids: list[str] = []
    memory_bytes: int = 0
    obstacle: str = ""
    """Why it does not make room now; empty: it will."""


class Explanation(Resource, frozen=True, kw_only=True):
    """Why a deployment is as it is."""

    deployment: str
    state: str = ""
    reason: str = ""
    """In one sentence; empty: nothing keeps it from serving."""
    needed_bytes: int | None = None
    """On each of its devices; None: it needs no room now."""
    accelerator_count: int = 1
    free_bytes: dict[str, int] = {}
    candidates: list[RoomCandidate] = []


class Node:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def fleet(self) -> Fleet:
        """What this key may see of it."""
        return self._transport.call("GET", FLEET, Fleet)

    def explain(self, deployment: str) -> Explanation:
        path = resource_path(self._transport, "deployments", deployment)
        return self._transport.call("GET", f"{path}:explain", Explanation)

    def lease(
        self,
        memory_bytes: int,
        duration: str,
        *,
        accelerator_type: str | None = None,
        accelerator_count: int | None = None,
        command: str = "",
        wait_timeout: str | None = None,
    ) -> Lease:
        """Returns when the memory is there; raises when it is not within `wait_timeout`, saying why.

        Times are such as `90s`, `2h` or `1h30m`.
        """
        body = {
            "memoryBytes": memory_bytes,
            "duration": duration,
            "acceleratorType": accelerator_type,
            "acceleratorCount": accelerator_count,
            "command": command,
            "waitTimeout": wait_timeout,
        }
        return self._transport.call("POST", LEASES, Lease, body={name: value for name, value in body.items() if value})

    def renew(self, lease_id: str) -> Lease:
        """Say that the holder is alive."""
        return self._transport.call("POST", f"{LEASES}/{lease_id}:renew", Lease)

    def end_lease(self, lease_id: str) -> None:
        self._transport.call("DELETE", f"{LEASES}/{lease_id}", Empty)
