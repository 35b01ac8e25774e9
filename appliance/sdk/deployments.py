"""Deployments as a client sees them, and what can be asked about each. Knows paths and fields, never sockets."""

from collections.abc import Iterator

from appliance.sdk.resources import (
    Empty,
    Resource,
    Status,
    Transport,
    camel,
    collection_path,
    pages,
    resource_path,
    selection,
)


class ReplicaStats(Resource, frozen=True, kw_only=True):
    pending_scheduling_replica_count: int = 0
    downloading_model_replica_count: int = 0
    initializing_replica_count: int = 0
    ready_replica_count: int = 0


class ScalingSchedule(Resource, frozen=True, kw_only=True, omit_defaults=True):
    min_replica_count: int = 0
    schedule: str = ""
    """Five cron fields: when it begins."""
    duration: str = ""
    timezone: str = ""
    description: str = ""
    disabled: bool = False


class AutoscalingPolicy(Resource, frozen=True, kw_only=True, omit_defaults=True):
    """Windows are durations such as `90s`; what is left empty is left to the server, or as it is."""

    scale_up_window: str = ""
    scale_down_window: str = ""
    scale_to_zero_window: str = ""
    load_targets: dict[str, float] = {}
    scaling_schedules: dict[str, ScalingSchedule] = {}


class ColdStart(Resource, frozen=True, kw_only=True):
    """How far the replica is that is the next to become ready."""

    stage: str = ""
    fraction: float = 0.0
    eta_seconds: float | None = None


class Replica(Resource, frozen=True, kw_only=True):
    index: int
    state: str = ""
    revision: int = 0
    device_ids: list[str] = []
    reserved_bytes: str = "0"
    """On each device, as `used_bytes`."""
    used_bytes: str | None = None
    """Measured when it had loaded."""
    host_bytes: str | None = None
    """Of the host's memory, while it is asleep."""
    num_in_flight: int = 0
    ready_time: str | None = None
    idle_since_time: str | None = None
    load_seconds: float | None = None
    """From the start of its worker until it could serve."""
    load_stages: dict[str, float] = {}
    """Seconds by stage, in their order; `stage/part` is a part of a stage, beside which others may have gone on."""
    message: str = ""


class ScalingDecision(Resource, frozen=True, kw_only=True):
    time: str | None = None
    from_replica_count: int = 0
    to_replica_count: int = 0
    reason: str = ""


class Deployment(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    description: str = ""
    base_model: str
    state: str = ""
    status: Status = Status()
    annotations: dict[str, str] = {}
    min_replica_count: int = 0
    max_replica_count: int = 0
    desired_replica_count: int = 0
    replica_count: int = 0
    replica_stats: ReplicaStats = ReplicaStats()
    autoscaling_policy: AutoscalingPolicy = AutoscalingPolicy()
    accelerator_type: str = ""
    accelerator_count: int = 0
    precision: str = ""
    max_context_length: int = 0
    draft_model: str = ""
    draft_token_count: int = 0
    ngram_speculation_length: int = 0
    deployment_shape: str = ""
    enable_addons: bool = False
    enable_session_affinity: bool = False
    kv_cache_fraction: float = 0.0
    pinned: bool = False
    never_evicts: bool = False
    unused_auto_delete_duration: str = ""
    revision: int = 0
    create_time: str | None = None
    update_time: str | None = None
    last_used_time: str | None = None
    expire_time: str | None = None
    delete_time: str | None = None
    purge_time: str | None = None
    cold_start: ColdStart | None = None
    replicas: list[Replica] = []
    """Like the history in the answer to `get` alone."""
    scaling_history: list[ScalingDecision] = []
    """The newest first."""


class DeploymentPage(Resource, frozen=True, kw_only=True):
    deployments: list[Deployment]
    next_page_token: str = ""


class TerminationMessage(Resource, frozen=True, kw_only=True):
    message: str = ""


class Deployments:
    """`fields` are those of `Deployment`, in this language's spelling."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        base_model: str,
        *,
        deployment_id: str | None = None,
        validate_only: bool = False,
        disable_auto_deploy: bool = False,
        disable_speculative_decoding: bool = False,
        skip_shape_validation: bool = False,
        **fields: object,
    ) -> Deployment:
        """None leaves a field to the server."""
        query = {
            "deploymentId": deployment_id,
            "validateOnly": validate_only,
            "disableAutoDeploy": disable_auto_deploy,
            "disableSpeculativeDecoding": disable_speculative_decoding,
            "skipShapeValidation": skip_shape_validation,
        }
        body = {"baseModel": base_model} | {camel(name): value for name, value in fields.items() if value is not None}
        path = collection_path(self._transport, "deployments")
        return self._transport.call("POST", path, Deployment, query, body)

    def get(self, deployment: str) -> Deployment:
        return self._transport.call("GET", self._path(deployment), Deployment)

    def list(self, *, show_deleted: bool = False, filter: str = "", order_by: str = "") -> Iterator[Deployment]:
        path = collection_path(self._transport, "deployments")
        query = {"showDeleted": show_deleted, **selection(filter, order_by)}
        for page in pages(self._transport, path, DeploymentPage, query):
            yield from page.deployments

    def update(self, deployment: str, *, validate_only: bool = False, **fields: object) -> Deployment:
        """Change the fields that are given; None sets one back to its default."""
        body = {camel(name): value for name, value in fields.items()}
        query = {"validateOnly": validate_only}
        return self._transport.call("PATCH", self._path(deployment), Deployment, query, body)

    def scale(self, deployment: str, replica_count: int) -> None:
        body = {"replicaCount": replica_count}
        self._transport.call("PATCH", f"{self._path(deployment)}:scale", Empty, body=body)

    def delete(self, deployment: str, *, hard: bool = False, ignore_checks: bool = False) -> None:
        query = {"hard": hard, "ignoreChecks": ignore_checks}
        self._transport.call("DELETE", self._path(deployment), Empty, query)

    def undelete(self, deployment: str) -> Deployment:
        return self._transport.call("POST", f"{self._path(deployment)}:undelete", Deployment, body={})

    def termination_message(self, deployment: str) -> str:
        """The last words of the worker that made it FAILED; empty when none did."""
        path = f"{self._path(deployment)}/terminationMessage"
        return self._transport.call("GET", path, TerminationMessage).message

    def _path(self, deployment: str) -> str:
        return resource_path(self._transport, "deployments", deployment)
