"""`hearth audit-logs list`: who did what in the account, or was refused."""

from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.deployment_options import read_time
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_table, readable_time
from appliance.sdk.audit_logs import AuditLogEntry


def list_all(
    session: Session,
    start_time: Annotated[
        str, typer.Option(metavar="TIME", help="YYYY-MM-DD[ HH:MM:SS] UTC. Default: 30 days ago.")
    ] = "",
    end_time: Annotated[str, typer.Option(metavar="TIME", help="Before this moment. Default: now.")] = "",
    email: Annotated[str, typer.Option(metavar="EMAIL", help="Only what this user did; a user id will do.")] = "",
    only: Filter = "",
    order_by: OrderBy = "",
) -> None:
    """Show who did what in the account, or was refused, the newest first. For administrators."""
    entries = list(
        session.client.audit_logs.list(
            start_time=read_time(start_time, "--start-time"),
            end_time=read_time(end_time, "--end-time"),
            email=email,
            filter=only,
            order_by=order_by,
        )
    )
    if session.is_json:
        return print_json(entries)
    return print_table(
        ["ID", "TIME", "WHO", "WHAT", "RESOURCE", "FIELDS", "RESULT"], [_row(entry) for entry in entries]
    )


def _row(entry: AuditLogEntry) -> list[str]:
    return [
        entry.id,
        readable_time(entry.timestamp),
        entry.principal or entry.client_ip,
        entry.message,
        entry.resource,
        ",".join(entry.payload.fields),
        entry.status.code,
    ]


COMMANDS = [
    Command(
        "list",
        "audit-log",
        list_all,
        (
            "hearth audit-logs list --start-time 2026-11-01 --email alice@example.com",
            "hearth audit-logs list --filter 'message:Delete AND resource:deployments'",
        ),
    ),
]
