"""`hearth config`: what the daemon's settings are and where each comes from, and a file to begin with."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import print_json, print_note, print_table, printable
from appliance.config import load_config, where_from


def show(
    session: Session,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's TOML file.")] = None,
    only_changed: Annotated[
        bool, typer.Option("--only-changed", help="Leave out those that are as they come.")
    ] = False,
) -> None:
    """Show every setting and where it comes from.

    As a daemon started here with this file would have it. It comes from the file, a variable of the environment or
    the service manager; no setting is a secret.
    """
    from appliance.operations.config_file import FROM_DEFAULT, effective, written

    settings = [
        setting
        for setting in effective(load_config(config), where_from(config))
        if setting.origin != FROM_DEFAULT or not only_changed
    ]
    if session.is_json:
        return print_json(
            [
                {"table": setting.table, "name": setting.name, "value": written(setting.value), "from": setting.origin}
                for setting in settings
            ]
        )
    if not settings:
        return print_note("Every setting is as it comes")
    rows = [
        [f"{setting.table}.{setting.name}".lstrip("."), written(setting.value), setting.origin] for setting in settings
    ]
    return print_table(["SETTING", "VALUE", "FROM"], rows)


def example(session: Session) -> None:
    """Print a configuration file with every setting, what it means and its default."""
    from appliance.operations.config_file import example

    typer.echo(printable(example()), nl=False)


COMMANDS = [
    Command(
        "show",
        "config",
        show,
        ("hearth config show", "hearth config show --config /etc/hearth/hearth.toml --only-changed"),
        is_local=True,
    ),
    Command("example", "config", example, ("hearth config example > hearth.toml",), is_local=True),
]
