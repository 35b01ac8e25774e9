"""`hearth billing …`: what an account used, on the screen or as a table for spreadsheets."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.deployment_options import read_time
from appliance.cli.output import print_json, print_line, print_table
from appliance.sdk.billing import DEVICES, DailyUsage, DedicatedUsage, Money

COLUMNS = (
    "DAY",
    "WHAT",
    "BY",
    "REQUESTS",
    "PROMPT",
    "CACHED",
    "COMPLETION",
    "AUDIO SECONDS",
    "IMAGES",
    "DEVICE SECONDS",
    "COST",
)
StartTime = Annotated[
    str, typer.Option(metavar="TIME", help="YYYY-MM-DD[ HH:MM:SS] in UTC. Default: the beginning of this month.")
]
EndTime = Annotated[str, typer.Option(metavar="TIME", help="At most 31 days later. Default: now.")]


def export_metrics(
    session: Session,
    start_time: StartTime = "",
    end_time: EndTime = "",
    filename: Annotated[Path, typer.Option(metavar="FILE", help="What to write.")] = Path("billing_metrics.csv"),
) -> None:
    """Write what was used into a file: a line for each day, user, model and type of device."""
    text = session.client.billing.metrics(*_window(start_time, end_time))
    filename.write_text(text)
    num_lines = text.count("\n") - 1
    if session.is_json:
        return print_json({"filename": str(filename), "lines": num_lines})
    return print_line(f"Wrote {num_lines} lines to {filename}")


def get_usage(
    session: Session,
    start_time: StartTime = "",
    end_time: EndTime = "",
    usage_type: Annotated[str, typer.Option(metavar="TYPE", help="serverless or dedicated-deployment.")] = "",
    group_by: Annotated[
        str, typer.Option(metavar="NAMES", help="For example model_name,api_key_id or annotations.team.")
    ] = "",
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Whose days are meant. Default: UTC.")] = "",
) -> None:
    """Show what was used, day by day."""
    usage = session.client.billing.usage(
        *_window(start_time, end_time),
        usage_type=usage_type.upper().replace("-", "_"),
        timezone=timezone,
        group_by=group_by,
    )
    if session.is_json:
        return print_json(usage)
    used: list[DailyUsage] = [*usage.serverless_costs, *usage.dedicated_costs]
    used.sort(key=lambda each: (each.start_time, each.usage_type, *each.group.values()))
    columns = columns_of(used)
    return print_table(columns, [[row[name] for name in columns] for row in map(_row, used)])


def columns_of(used: Sequence[DailyUsage]) -> list[str]:
    """Without those that few use, where nobody did."""
    shown = {
        "AUDIO SECONDS": any(each.audio_input_seconds for each in used),
        "IMAGES": any(each.image_count != "0" for each in used),
        "COST": any(each.cost for each in used),
    }
    return [name for name in COLUMNS if shown.get(name, True)]


def _row(used: DailyUsage) -> dict[str, str]:
    by = ", ".join(value.rpartition("/")[2] for value in used.group.values() if value)
    seconds = used.accelerator_seconds if isinstance(used, DedicatedUsage) else "0"
    counts = (used.request_count, used.prompt_tokens, used.cached_prompt_tokens, used.completion_tokens)
    others = (used.audio_input_seconds, used.image_count, seconds)
    cells = [used.start_time[:10], _what(used), by, *(f"{int(count):,}" for count in (*counts, *others))]
    return dict(zip(COLUMNS, [*cells, _readable_money(used.cost)], strict=True))


def _what(used: DailyUsage) -> str:
    """Tokens on deployments of others, or on one's own; or the time of devices."""
    if not isinstance(used, DedicatedUsage):
        return "shared"
    return "devices" if used.usage_type == DEVICES else "own"


def _window(start_time: str, end_time: str) -> tuple[str, str]:
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = read_time(start_time, "--start-time") or month.isoformat()
    return start, read_time(end_time, "--end-time") or now.isoformat()


def _readable_money(money: Money | None) -> str:
    return "" if money is None else f"{money.amount:,.4f} {money.currency_code}"


COMMANDS = [
    Command(
        "export-metrics",
        "billing",
        export_metrics,
        ("hearth billing export-metrics --start-time 2026-01-01 --end-time 2026-01-31",),
        also=("export billing metrics",),
    ),
    Command(
        "get-usage",
        "billing",
        get_usage,
        ("hearth billing get-usage", "hearth billing get-usage --group-by annotations.team"),
    ),
]
