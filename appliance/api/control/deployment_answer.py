"""A deployment as clients see it: its row, and what the supervisor sees of its replicas at this moment."""

from collections import Counter
from collections.abc import Sequence

from appliance.api.control.durations import render_duration
from appliance.api.control.wire import Answer, Status, Wire, render_time
from appliance.domain import AutoscalingPolicy, Deployment, DeploymentState, ReplicaState, ScalingDecision
from appliance.orchestrator.group import ColdStart
from appliance.orchestrator.views import ReplicaView


class ReplicaStats(Wire, frozen=True, kw_only=True):
    pending_scheduling_replica_count: int = 0
    downloading_model_replica_count: int = 0
    initializing_replica_count: int = 0
    ready_replica_count: int = 0


class ScalingScheduleAnswer(Wire, frozen=True, kw_only=True):
    min_replica_count: int
    schedule: str
    duration: str
    timezone: str
    description: str
    disabled: bool


class AutoscalingPolicyAnswer(Wire, frozen=True, kw_only=True):
    scale_up_window: str
    scale_down_window: str
    scale_to_zero_window: str
    load_targets: dict[str, float]
    scaling_schedules: dict[str, ScalingScheduleAnswer]


class ColdStartAnswer(Answer, frozen=True, kw_only=True):
    """How far the replica is that is the next to become ready. Ours."""

    stage: str
    fraction: float
    eta_seconds: float | None = None


class ReplicaAnswer(Answer, frozen=True, kw_only=True):
    """One worker, or the place where one waits to be tried again. Ours; sizes are on each of its devices."""

    index: int
    state: str
    revision: int
    device_ids: list[str]
    reserved_bytes: str
    used_bytes: str | None = None
    """Measured when it had loaded."""
    host_bytes: str | None = None
    """Of the host's memory, while it is asleep."""
    num_in_flight: int
    ready_time: str | None = None
    idle_since_time: str | None = None
    load_seconds: float | None = None
    """From the start of its worker until it could serve."""
    load_stages: dict[str, float] = {}
    """Seconds by stage, in their order; `stage/part` is a part of a stage, beside which others may have gone on."""
    message: str = ""


class ScalingDecisionAnswer(Wire, frozen=True, kw_only=True):
    """Ours."""

    time: str | None
    from_replica_count: int
    to_replica_count: int
    reason: str


class DeploymentAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    base_model: str
    state: str
    status: Status
    annotations: dict[str, str]
    min_replica_count: int
    max_replica_count: int
    desired_replica_count: int
    replica_count: int
    replica_stats: ReplicaStats
    autoscaling_policy: AutoscalingPolicyAnswer
    accelerator_type: str | None = None
    accelerator_count: int
    precision: str | None = None
    max_context_length: int | None = None
    draft_model: str | None = None
    draft_token_count: int | None = None
    ngram_speculation_length: int | None = None
    deployment_shape: str | None = None
    enable_addons: bool
    enable_session_affinity: bool
    region: str
    create_time: str | None = None
    update_time: str | None = None
    expire_time: str | None = None
    delete_time: str | None = None
    purge_time: str | None = None
    # Ours from here on.
    kv_cache_fraction: float | None = None
    pinned: bool
    never_evicts: bool
    unused_auto_delete_duration: str
    last_used_time: str | None = None
    revision: int
    cold_start: ColdStartAnswer | None = None
    replicas: list[ReplicaAnswer] | None = None
    """Like the history only where one deployment is asked for, by those it belongs to."""
    scaling_history: list[ScalingDecisionAnswer] | None = None


class DeploymentShard(Answer, frozen=True, kw_only=True):
    name: str
    create_time: str | None = None
    update_time: str | None = None
    state: str
    status: Status
    replica_stats: ReplicaStats


class DeploymentShardList(Wire, frozen=True, kw_only=True):
    deployment_shards: list[DeploymentShard]
    next_page_token: str = ""
    total_size: int


def render_deployment(
    deployment: Deployment,
    replicas: Sequence[ReplicaView],
    region: str,
    *,
    cold_start: ColdStart | None = None,
    history: Sequence[ScalingDecision] | None = None,
) -> DeploymentAnswer:
    """Its insides are shown with its `history`."""
    stats = count_replicas(deployment, replicas)
    return DeploymentAnswer(
        name=deployment.name,
        display_name=deployment.display_name,
        description=deployment.description,
        base_model=deployment.base_model,
        state=deployment.state,
        status=_render_status(deployment, replicas, stats),
        annotations=deployment.annotations,
        min_replica_count=deployment.min_replica_count,
        max_replica_count=deployment.max_replica_count,
        desired_replica_count=deployment.desired_replica_count,
        replica_count=stats.ready_replica_count,
        replica_stats=stats,
        autoscaling_policy=render_policy(deployment.autoscaling),
        accelerator_type=deployment.accelerator_type,
        accelerator_count=deployment.accelerator_count,
        precision=deployment.precision,
        max_context_length=deployment.max_context_length,
        draft_model=deployment.draft_model,
        draft_token_count=deployment.draft_token_count,
        ngram_speculation_length=deployment.ngram_speculation_length,
        deployment_shape=deployment.shape,
        enable_addons=deployment.enable_addons,
        enable_session_affinity=deployment.enable_session_affinity,
        region=region,
        create_time=render_time(deployment.created_at),
        update_time=render_time(deployment.updated_at),
        expire_time=render_time(deployment.expires_at),
        delete_time=render_time(deployment.deleted_at),
        purge_time=render_time(deployment.purge_at),
        kv_cache_fraction=deployment.kv_cache_fraction,
        pinned=deployment.is_pinned,
        never_evicts=not deployment.may_evict,
        unused_auto_delete_duration=render_duration(deployment.auto_delete_s),
        last_used_time=render_time(deployment.last_used_at),
        revision=deployment.revision,
        cold_start=None if cold_start is None else _render_cold_start(cold_start),
        replicas=None if history is None else [_render_replica(replica) for replica in replicas],
        scaling_history=None if history is None else [_render_decision(decision) for decision in history],
    )


def render_shard(deployment: Deployment, replicas: Sequence[ReplicaView], region: str) -> DeploymentShard:
    """The whole deployment is one shard: there is one box."""
    stats = count_replicas(deployment, replicas)
    return DeploymentShard(
        name=f"{deployment.name}/shards/{region.lower()}",
        create_time=render_time(deployment.created_at),
        update_time=render_time(deployment.updated_at),
        state=deployment.state,
        status=_render_status(deployment, replicas, stats),
        replica_stats=stats,
    )


def render_policy(policy: AutoscalingPolicy) -> AutoscalingPolicyAnswer:
    return AutoscalingPolicyAnswer(
        scale_up_window=render_duration(policy.scale_up_window_s),
        scale_down_window=render_duration(policy.scale_down_window_s),
        scale_to_zero_window=render_duration(policy.scale_to_zero_window_s),
        load_targets={str(target): value for target, value in policy.load_targets.items()},
        scaling_schedules={
            name: ScalingScheduleAnswer(
                min_replica_count=schedule.min_replica_count,
                schedule=schedule.schedule,
                duration=render_duration(schedule.duration_s),
                timezone=schedule.timezone,
                description=schedule.description,
                disabled=schedule.is_disabled,
            )
            for name, schedule in policy.scaling_schedules.items()
        },
    )


def count_replicas(deployment: Deployment, replicas: Sequence[ReplicaView]) -> ReplicaStats:
    """Each replica that is to stay in one of three stages; one that gave up is in none."""
    states = Counter(
        replica.state for replica in replicas if not replica.is_leaving and replica.state is not ReplicaState.ASLEEP
    )
    return ReplicaStats(
        pending_scheduling_replica_count=max(0, deployment.desired_replica_count - states.total()),
        downloading_model_replica_count=0,
        initializing_replica_count=states[ReplicaState.STARTING] + states[ReplicaState.LOADING],
        ready_replica_count=states[ReplicaState.READY],
    )


def _render_status(deployment: Deployment, replicas: Sequence[ReplicaView], stats: ReplicaStats) -> Status:
    if deployment.state is DeploymentState.FAILED:
        return Status(code="INTERNAL", message=deployment.status_message)
    if stats.pending_scheduling_replica_count and deployment.status_message:
        return Status(code="RESOURCE_EXHAUSTED", message=deployment.status_message)
    return Status(message=deployment.status_message or _loading_message(replicas))


def _loading_message(replicas: Sequence[ReplicaView]) -> str:
    """How far the loads under way are."""
    return "; ".join(f"replica {replica.index}: {text}" for replica in replicas if (text := _progress(replica)))


def _progress(replica: ReplicaView) -> str:
    if replica.state is not ReplicaState.LOADING or replica.progress is None:
        return ""
    return f"{replica.progress.stage} {replica.progress.fraction:.0%}"


def _render_cold_start(cold_start: ColdStart) -> ColdStartAnswer:
    eta_s = cold_start.eta_s
    return ColdStartAnswer(
        stage=cold_start.stage,
        fraction=round(cold_start.fraction, 3),
        eta_seconds=None if eta_s is None else round(eta_s, 1),
    )


def _render_replica(replica: ReplicaView) -> ReplicaAnswer:
    return ReplicaAnswer(
        index=replica.index,
        state=replica.state,
        revision=replica.revision,
        device_ids=list(replica.device_ids),
        reserved_bytes=str(replica.reserved_bytes),
        used_bytes=None if replica.footprint_bytes is None else str(replica.footprint_bytes),
        host_bytes=str(replica.host_bytes) if replica.host_bytes else None,
        num_in_flight=replica.num_in_flight,
        ready_time=render_time(replica.ready_at),
        idle_since_time=render_time(replica.idle_since),
        load_seconds=None if replica.load_s is None else round(replica.load_s, 3),
        load_stages={stage: round(ms / 1000, 3) for stage, ms in replica.load_ms.items()},
        message=replica.reason or _progress(replica),
    )


def _render_decision(decision: ScalingDecision) -> ScalingDecisionAnswer:
    return ScalingDecisionAnswer(
        time=render_time(decision.at),
        from_replica_count=decision.from_count,
        to_replica_count=decision.to_count,
        reason=decision.reason,
    )
