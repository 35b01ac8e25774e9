"""`hearth doctor`: what is wrong with this machine, this data directory or this daemon, and what to do about it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import UNLIMITED_COLUMNS, print_json, print_line, printable, progress_line
from appliance.config import Config, load_config
from appliance.errors import HearthError
from appliance.sdk.errors import NoAnswer, SdkError

if TYPE_CHECKING:
    from appliance.operations.findings import Finding

SICK = 1
"""Exit status."""
PATIENCE_S = 3.0
STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    session: Session,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's TOML file.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The daemon's. Default: ~/.local/share/hearth.")
    ] = None,
) -> None:
    """Look for what is wrong, and say what to do about it.

    At the machine, the data directory, its state and the daemon. Changes nothing and needs no daemon. Exit status 1
    says that there is a problem; warnings are none.
    """
    findings = []
    with progress_line() as line:
        for finding in _examine(session, config, data_dir):
            findings.append(finding)
            if sys.stderr.isatty() and not session.is_json:
                line.show(f"looked at: {finding.check}")
    if session.is_json:
        print_json(findings)
    else:
        _show(findings)
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(SICK)


def _examine(session: Session, file: Path | None, data_dir: Path | None) -> "Iterator[Finding]":
    from appliance.operations.doctor import examine
    from appliance.operations.findings import ok, problem

    given = {"data_dir": data_dir}
    try:
        settings = load_config(file, given)
        yield ok("Configuration", str(file) if file is not None else "no file; see hearth config show")
    except HearthError as error:
        yield problem("Configuration", error.message, "correct it; hearth config example explains every setting")
        settings = load_config(None, given, {})
    yield from examine(settings)
    yield _ask_daemon(session, settings)


def _ask_daemon(session: Session, settings: Config) -> "Finding":
    from importlib.metadata import version as distribution_version

    from appliance.operations.findings import ok, problem, warning
    from appliance.store.lock import find_lock_holder

    where = session.credentials.base_url
    holder = find_lock_holder(settings.data_dir.expanduser().absolute())
    try:
        with session.connect(answer_timeout_s=PATIENCE_S) as client:
            version = client.key_holder.version
    except NoAnswer as error:
        if holder is None:
            return warning("Daemon", f"none answers at {where}", "hearth serve, or systemctl start hearth")
        message = f"process {holder} is at work on this data directory, but {error.message}"
        return problem(
            "Daemon", message, "wait if it has just begun; else see its log, and name its address: --base-url"
        )
    except SdkError as error:
        return ok("Daemon", f"answers at {where}; of its version it says: {error.message}")
    if (own := distribution_version("hearth")) != version:
        message = f"{version} answers at {where}, this program is {own}"
        return warning("Daemon", message, "restart it: systemctl restart hearth")
    return ok("Daemon", f"{version} answers at {where}")


def _show(findings: "list[Finding]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.verdict, style=STYLES[finding.verdict]), finding.check, Text(printable(finding.message))
        )
        if finding.advice:
            table.add_row("", "", Text(f"→ {printable(finding.advice)}", style="bold"))
    width = None if sys.stdout.isatty() else UNLIMITED_COLUMNS
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in STYLES}
    print_line(f"\n{counts['ok']} ok, {_many(counts, 'warning')}, {_many(counts, 'problem')}")


def _many(counts: dict[str, int], verdict: str) -> str:
    return f"{counts[verdict]} {verdict}{'' if counts[verdict] == 1 else 's'}"


COMMANDS = [
    Command(
        "doctor",
        None,
        doctor,
        ("hearth doctor", "hearth doctor --config /etc/hearth/hearth.toml --data-dir /var/lib/hearth"),
        is_local=True,
    )
]
