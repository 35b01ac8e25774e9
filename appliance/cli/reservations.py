"""`hearth … reservation` and `hearth … cluster`: devices held for an account, and the box they are in."""

from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.deployment_options import read_time
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_line, print_record, print_table, readable_time
from appliance.sdk.reservations import Cluster, Reservation

ReservationName = Annotated[
    str, typer.Argument(metavar="RESERVATION", help="Id, or full name: accounts/ACCOUNT/reservations/ID.")
]
ClusterName = Annotated[str, typer.Argument(metavar="CLUSTER", help="This box is called local.")]
DisplayName = Annotated[str | None, typer.Option(metavar="NAME", help="Human-readable name.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")]
EndTime = Annotated[
    str | None, typer.Option(metavar="TIME", help="Until when: 2030-01-31T00:00:00Z. Default: until it is deleted.")
]


def create(
    session: Session,
    accelerator_type: Annotated[str, typer.Option(metavar="TYPE", help="As `hearth get cluster local` shows it.")],
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="How many devices.")] = 1,
    reservation_id: Annotated[str, typer.Option(metavar="ID", help="Default: one that is made up.")] = "",
    start_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="From when: 2030-01-01T00:00:00Z. Default: now.")
    ] = None,
    end_time: EndTime = None,
    display_name: DisplayName = None,
    description: Description = None,
) -> None:
    """Hold devices for an account (-a). Nothing of other accounts is placed on them meanwhile."""
    reservation = session.client.reservations.create(
        accelerator_type,
        count,
        reservation_id=reservation_id,
        start_time=_time(start_time, "--start-time"),
        end_time=_time(end_time, "--end-time"),
        display_name=display_name,
        description=description,
    )
    _show(session, reservation)


def get(session: Session, reservation: ReservationName) -> None:
    """Show one reservation."""
    _show(session, session.client.reservations.get(reservation))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the account's reservations, those that are over too."""
    reservations = list(session.client.reservations.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(reservations)
    rows = [
        [
            _id(each.name),
            each.state,
            f"{each.reserved_count} {each.accelerator_type}",
            readable_time(each.start_time),
            readable_time(each.end_time),
        ]
        for each in reservations
    ]
    return print_table(["ID", "STATE", "DEVICES", "FROM", "UNTIL"], rows)


def update(
    session: Session,
    reservation: ReservationName,
    end_time: EndTime = None,
    display_name: DisplayName = None,
    description: Description = None,
) -> None:
    """Rename a reservation, or change when it ends."""
    changed = session.client.reservations.update(
        reservation, end_time=_time(end_time, "--end-time"), display_name=display_name, description=description
    )
    _show(session, changed)


def delete(session: Session, reservation: ReservationName) -> None:
    """Give its devices back to everybody."""
    session.client.reservations.delete(reservation)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {reservation}")


def get_cluster(session: Session, cluster: ClusterName) -> None:
    """Show what devices this box has, and what its region is called."""
    _show_cluster(session, session.client.clusters.get(cluster))


def list_clusters(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the clusters: this box."""
    clusters = list(session.client.clusters.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(clusters)
    rows = [[_id(each.name), each.state, each.region, _devices(each)] for each in clusters]
    return print_table(["ID", "STATE", "REGION", "DEVICES"], rows)


def _show(session: Session, reservation: Reservation) -> None:
    if session.is_json:
        return print_json(reservation)
    return print_record(
        [
            ("Name", reservation.name),
            ("Display name", reservation.display_name),
            ("Description", reservation.description),
            ("State", reservation.state),
            ("Devices", f"{reservation.reserved_count} {reservation.accelerator_type}"),
            ("Device ids", ", ".join(reservation.device_ids)),
            ("From", readable_time(reservation.start_time)),
            ("Until", readable_time(reservation.end_time)),
            ("Created by", reservation.created_by),
        ]
    )


def _show_cluster(session: Session, cluster: Cluster) -> None:
    if session.is_json:
        return print_json(cluster)
    return print_record(
        [
            ("Name", cluster.name),
            ("Display name", cluster.display_name),
            ("State", cluster.state),
            ("Region", cluster.region),
            ("Devices", _devices(cluster)),
        ]
    )


def _devices(cluster: Cluster) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in cluster.accelerator_counts.items())


def _time(text: str | None, option: str) -> str | None:
    return read_time(text, option) if text else None


def _id(name: str) -> str:
    return name.rpartition("/")[2]


COMMANDS = [
    Command(
        "create",
        "reservation",
        create,
        ("hearth create reservation -a acme --accelerator-type NVIDIA_H100_80GB --count 2",),
    ),
    Command("get", "reservation", get, ("hearth get reservation week",)),
    Command("list", "reservation", list_all, ("hearth list reservations",)),
    Command("update", "reservation", update, ("hearth update reservation week --end-time 2030-01-31T00:00:00Z",)),
    Command("delete", "reservation", delete, ("hearth delete reservation week",)),
    Command("get", "cluster", get_cluster, ("hearth get cluster local",)),
    Command("list", "cluster", list_clusters, ("hearth list clusters",)),
]
