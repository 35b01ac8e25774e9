"""`hearth ps` and `hearth explain`: what runs on this machine, and why something does not."""

import time
from datetime import datetime

from appliance.cli.commands import Command, Session
from appliance.cli.deployments import DeploymentName
from appliance.cli.output import print_json, print_line, print_note, print_record, print_table
from appliance.cli.units import readable_bytes, readable_duration
from appliance.sdk.fleet import Device, Explanation, Fleet, FleetReplica

PS_HEADINGS = ["REPLICA", "MODEL", "DEVICE", "MEMORY", "STATE", "IDLE", "UNTIL"]


def ps(session: Session) -> None:
    """Show every replica: its device and memory, and how long it stays."""
    fleet = session.client.node.fleet()
    if session.is_json:
        return print_json(fleet)
    print_table(PS_HEADINGS, replica_rows(fleet, time.time()))
    for lease in fleet.leases:
        size = readable_bytes(lease.memory_bytes)
        print_note(f"lease {lease.id}: {size} on {', '.join(lease.device_ids)} for {lease.command or 'a program'}")
    for deployment in fleet.deployments:
        if deployment.message:
            print_note(f"{short(deployment.name)}: {deployment.message}")
    return None


def explain(session: Session, deployment: DeploymentName) -> None:
    """Say what keeps a deployment from serving: what it needs, what is free, what could make room."""
    explanation = session.client.node.explain(deployment)
    if session.is_json:
        return print_json(explanation)
    print_record([("Deployment", explanation.deployment), ("State", explanation.state), ("Needs", _needs(explanation))])
    print_line(explanation.reason or "Nothing keeps it from serving.")
    if explanation.free_bytes:
        print_line("")
        print_table(
            ["DEVICE", "FREE"],
            [[device_id, readable_bytes(free)] for device_id, free in sorted(explanation.free_bytes.items())],
        )
    if explanation.candidates:
        print_line("")
        print_table(
            ["COULD MAKE ROOM", "DEVICE", "FREES", "NOW"],
            [
                [
                    short(candidate.owner),
                    ", ".join(candidate.device_ids),
                    readable_bytes(candidate.memory_bytes),
                    candidate.obstacle or "yes",
                ]
                for candidate in explanation.candidates
            ],
        )
    return None


def replica_rows(fleet: Fleet, now: float) -> list[list[str]]:
    return [
        [
            short(replica.name),
            short(replica.base_model),
            ", ".join(replica.device_ids),
            memory(replica),
            replica.state,
            "" if replica.idle_seconds is None else readable_duration(replica.idle_seconds),
            until(replica, now),
        ]
        for replica in fleet.replicas
    ]


def memory(replica: FleetReplica) -> str:
    """Used of reserved, once it was measured; what it holds of the host's while it is asleep."""
    if replica.state == "ASLEEP":
        return f"{readable_bytes(replica.host_bytes)} of the host"
    reserved = readable_bytes(replica.reserved_bytes)
    return reserved if replica.used_bytes is None else f"{readable_bytes(replica.used_bytes)} of {reserved}"


def until(replica: FleetReplica, now: float) -> str:
    if replica.kept_by:
        return replica.kept_by
    if replica.until_time is None:
        return ""
    return f"in {readable_duration(datetime.fromisoformat(replica.until_time).timestamp() - now)}"


def device_line(device: Device) -> str:
    """One device in one line: memory, and what its driver says of it."""
    used = device.memory_bytes - device.free_bytes
    parts = [device.id, device.accelerator_type, f"{readable_bytes(used)} of {readable_bytes(device.memory_bytes)}"]
    if device.utilization is not None:
        parts.append(f"{device.utilization:.0%} busy")
    if device.power_watts is not None:
        parts.append(f"{device.power_watts:.0f} W")
    if device.temperature_celsius is not None:
        parts.append(f"{device.temperature_celsius:.0f} °C")
    return "  ".join(parts)


def short(name: str) -> str:
    """`accounts/A/models/M` as `M`, a replica or the owner of its memory as `D/0`."""
    match name.split("/"):
        case ["accounts", _, "deployments", deployment_id, "replicas", index]:
            return f"{deployment_id}/{index}"
        case ["accounts", _, _, *rest]:
            return "/".join(rest)
    return name


def _needs(explanation: Explanation) -> str:
    if explanation.needed_bytes is None:
        return ""
    size = readable_bytes(explanation.needed_bytes)
    return f"{size} on each of {explanation.accelerator_count}" if explanation.accelerator_count > 1 else size


COMMANDS = [
    Command("ps", None, ps, ("hearth ps", "hearth ps -o json")),
    Command("explain", "deployment", explain, ("hearth explain deployment blue",)),
]
