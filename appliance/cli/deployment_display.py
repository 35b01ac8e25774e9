"""What is printed of deployments: one in full, many in a table, and how one comes along that is waited for."""

import time
from collections.abc import Sequence
from datetime import datetime

from appliance.cli.commands import Session
from appliance.cli.output import (
    ProgressLine,
    print_json,
    print_line,
    print_note,
    print_record,
    print_table,
    progress_line,
    readable_time,
)
from appliance.cli.units import readable_bytes, readable_duration
from appliance.sdk.deployments import AutoscalingPolicy, Deployment, Replica
from appliance.sdk.errors import NotFound, SdkError

POLL_INTERVAL_S = 0.5
DECISIONS_SHOWN = 10


def show_deployment(session: Session, deployment: Deployment) -> None:
    if session.is_json:
        return print_json(deployment)
    print_record(_record(deployment))
    _show_replicas(deployment)
    return _show_history(deployment)


def show_deployments(session: Session, deployments: Sequence[Deployment]) -> None:
    if session.is_json:
        return print_json(deployments)
    rows = [
        [short_name(deployment.name), deployment.base_model, deployment.state, replicas_of(deployment)]
        for deployment in deployments
    ]
    print_table(["ID", "MODEL", "STATE", "REPLICAS"], rows)
    for deployment in deployments:
        if deployment.status.message:
            print_note(f"{short_name(deployment.name)}: {deployment.status.message}")
    return None


def wait_until_ready(session: Session, deployment: Deployment) -> Deployment:
    """Raises when it fails or goes away. Ctrl-C leaves it to itself."""
    try:
        with progress_line() as progress:
            while deployment.state != "READY":
                if deployment.state in ("FAILED", "DELETING", "DELETED"):
                    reason = deployment.status.message or "no reason given"
                    raise SdkError(f"{deployment.name} is {deployment.state}: {reason}")
                _show_progress(progress, deployment)
                time.sleep(POLL_INTERVAL_S)
                deployment = session.client.deployments.get(deployment.name)
    except KeyboardInterrupt:
        name = short_name(deployment.name)
        print_note(f"{deployment.name} goes on without being watched; hearth get deployment {name}")
        raise
    return deployment


def wait_until_deleted(session: Session, deployment: str) -> None:
    with progress_line() as progress:
        try:
            while (seen := session.client.deployments.get(deployment)).state != "DELETED":
                _show_progress(progress, seen)
                time.sleep(POLL_INTERVAL_S)
        except NotFound:
            return  # purged


def short_name(name: str) -> str:
    return name.rpartition("/")[2]


def replicas_of(deployment: Deployment) -> str:
    return f"{deployment.replica_stats.ready_replica_count}/{deployment.desired_replica_count}"


def _show_progress(progress: ProgressLine, deployment: Deployment) -> None:
    replicas = f"{replicas_of(deployment)} replicas"
    parts = [short_name(deployment.name), deployment.state, replicas, _outlook(deployment)]
    progress.show(" · ".join(part for part in parts if part))


def _outlook(deployment: Deployment) -> str:
    """Stage, percent and the time that is left; else what is in its way."""
    start = deployment.cold_start
    if start is None:
        return deployment.status.message
    left = "" if start.eta_seconds is None else f", {start.eta_seconds:.0f} s left"
    return f"{start.stage} {start.fraction:.0%}{left}"


def _record(deployment: Deployment) -> list[tuple[str, str]]:
    accelerators = f"{deployment.accelerator_count} × {deployment.accelerator_type}"
    fraction = deployment.kv_cache_fraction
    return [
        ("Name", deployment.name),
        ("Display name", deployment.display_name),
        ("Description", deployment.description),
        ("Base model", deployment.base_model),
        ("State", deployment.state),
        ("Status", deployment.status.message),
        ("Replicas", f"{replicas_of(deployment)} ready"),
        ("Replica limits", f"{deployment.min_replica_count} to {deployment.max_replica_count}"),
        *_policy_record(deployment.autoscaling_policy),
        ("Deployment shape", deployment.deployment_shape),
        ("Accelerators", accelerators if deployment.accelerator_type else ""),
        ("Precision", deployment.precision),
        ("Context length", str(deployment.max_context_length or "")),
        ("KV cache", f"{fraction:.0%} of its devices" if fraction else ""),
        ("Addons", "enabled" if deployment.enable_addons else ""),
        ("Session affinity", "" if deployment.enable_session_affinity else "off"),
        ("Pinned", "yes" if deployment.pinned else ""),
        ("Never evicts", "yes" if deployment.never_evicts else ""),
        ("Draft model", deployment.draft_model),
        ("Draft tokens", str(deployment.draft_token_count or "")),
        ("N-gram length", str(deployment.ngram_speculation_length or "")),
        ("Deleted unused", _auto_delete(deployment.unused_auto_delete_duration)),
        ("Revision", str(deployment.revision or "")),
        ("Created", readable_time(deployment.create_time)),
        ("Updated", readable_time(deployment.update_time)),
        ("Last used", readable_time(deployment.last_used_time)),
        ("Expires", readable_time(deployment.expire_time)),
        ("Deleted", readable_time(deployment.delete_time)),
        ("Purged at", readable_time(deployment.purge_time)),
    ]


def _policy_record(policy: AutoscalingPolicy) -> list[tuple[str, str]]:
    windows = [("up", policy.scale_up_window), ("down", policy.scale_down_window)]
    windows.append(("to zero", policy.scale_to_zero_window))
    return [
        ("Scaling windows", ", ".join(f"{name} {_compact(window)}" for name, window in windows if window)),
        ("Load targets", ", ".join(f"{name} {value:g}" for name, value in policy.load_targets.items())),
        *(
            (
                f"Schedule {name}",
                f"at least {schedule.min_replica_count} for {_compact(schedule.duration)} from {schedule.schedule!r}"
                f" {schedule.timezone}{' (disabled)' if schedule.disabled else ''}",
            )
            for name, schedule in policy.scaling_schedules.items()
        ),
    ]


def _auto_delete(duration: str) -> str:
    return "never" if duration == "0s" else (f"for {_compact(duration)}" if duration else "")


def _compact(duration: str) -> str:
    """As a person writes it: `1h30m`, not `5400s`."""
    seconds = float(duration.removesuffix("s"))
    if seconds < 60 or not seconds.is_integer():
        return duration
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return "".join(f"{number}{unit}" for number, unit in ((hour, "h"), (minute, "m"), (second, "s")) if number)


def _show_replicas(deployment: Deployment) -> None:
    if not deployment.replicas:
        return
    rows = [
        [
            str(replica.index),
            replica.state if replica.revision == deployment.revision else f"{replica.state}, outdated",
            ", ".join(replica.device_ids),
            readable_bytes(int(replica.reserved_bytes)),
            "" if replica.used_bytes is None else readable_bytes(int(replica.used_bytes)),
            str(replica.num_in_flight),
            _age(replica.ready_time),
        ]
        for replica in deployment.replicas
    ]
    print_line("")
    print_table(["REPLICA", "STATE", "DEVICES", "RESERVED", "USED", "REQUESTS", "READY FOR"], rows)
    for replica in deployment.replicas:
        if replica.message:
            print_note(f"replica {replica.index}: {replica.message}")
        if replica.load_seconds is not None:
            print_note(f"replica {replica.index}: {_load_in_words(replica)}")


def _load_in_words(replica: Replica) -> str:
    """Parts of a stage in brackets after it; what took no hundredth of a second is not worth a word."""
    told = [(stage, seconds) for stage, seconds in replica.load_stages.items() if seconds >= 0.01]
    words = [f"{stage} {seconds:.2f} s{_parts(stage, told)}" for stage, seconds in told if "/" not in stage]
    return f"loaded in {replica.load_seconds:.2f} s" + (f": {', '.join(words)}" if words else "")


def _parts(stage: str, told: list[tuple[str, float]]) -> str:
    parts = [f"{name.partition('/')[2]} {seconds:.2f}" for name, seconds in told if name.startswith(f"{stage}/")]
    return f" ({', '.join(parts)})" if parts else ""


def _age(timestamp: str | None) -> str:
    return "" if timestamp is None else readable_duration(time.time() - datetime.fromisoformat(timestamp).timestamp())


def _show_history(deployment: Deployment) -> None:
    if not deployment.scaling_history:
        return
    rows = [
        [readable_time(each.time), f"{each.from_replica_count} → {each.to_replica_count}", each.reason]
        for each in deployment.scaling_history[:DECISIONS_SHOWN]
    ]
    print_line("")
    print_table(["SCALED AT", "REPLICAS", "REASON"], rows)
