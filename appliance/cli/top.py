"""`hearth top`: the machine at work, per device and per deployment, redrawn every second until Ctrl-C."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.fleet import device_line, short
from appliance.cli.output import UNLIMITED_COLUMNS, print_json, printable
from appliance.cli.units import readable_bytes
from appliance.sdk.fleet import Device, Fleet, FleetDeployment

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

HEADINGS = ["DEPLOYMENT", "STATE", "READY", "LOAD", "REQ/S", "TOK/S", "RUNNING", "WAITING", "CACHE HITS"]


def top(
    session: Session,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Between two looks.")] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look once and end; so does output that is no terminal.")
    ] = False,
) -> None:
    """Watch load, tokens per second, queues and cache hits."""
    from rich.console import Console
    from rich.live import Live

    if session.is_json:
        return print_json(session.client.node.fleet())
    is_live = sys.stdout.isatty() and not once
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)
    if not is_live:
        return console.print(screen(session.client.node.fleet()))
    with Live(screen(session.client.node.fleet()), console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                live.update(screen(session.client.node.fleet()), refresh=True)
        except KeyboardInterrupt:
            return None


def screen(fleet: Fleet) -> "Group":
    from rich.console import Group
    from rich.text import Text

    devices = [*fleet.devices, *([fleet.host] if fleet.host is not None else [])]
    lines = [line for device in devices for line in _device_lines(device)]
    return Group(*lines, Text(""), _table(fleet.deployments))


def _device_lines(device: Device) -> "list[Text]":
    from rich.text import Text

    holders = sorted(device.holders, key=lambda holder: -holder.memory_bytes)
    held = ", ".join(f"{short(holder.owner)} {readable_bytes(holder.memory_bytes)}" for holder in holders)
    lines = [Text(printable(device_line(device)), style="bold")]
    return [*lines, Text(printable(f"  {held}"))] if held else lines


def _table(deployments: list[FleetDeployment]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        is_text = heading in ("DEPLOYMENT", "STATE")
        table.add_column(heading, no_wrap=True, justify="left" if is_text else "right", overflow="ellipsis")
    for deployment in deployments:
        table.add_row(*(Text(printable(cell)) for cell in _row(deployment)))
    return table


def _row(deployment: FleetDeployment) -> list[str]:
    hits = deployment.prompt_cache_hit_rate
    return [
        short(deployment.name),
        deployment.state,
        f"{deployment.ready_replica_count}/{deployment.desired_replica_count}",
        f"{deployment.load:.0%}",
        f"{deployment.requests_per_second:.1f}",
        f"{deployment.tokens_per_second:.0f}",
        str(deployment.num_in_flight),
        str(deployment.num_waiting),
        "" if hits is None else f"{hits:.0%}",
    ]


COMMANDS = [Command("top", None, top, ("hearth top", "hearth top --once"))]
