"""`hearth upgrade --check`: what the next start of a newer version will do to the database, tried on a copy."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import print_json, print_line
from appliance.config import load_config


def upgrade(
    session: Session,
    check: Annotated[bool, typer.Option("--check", help="Try it on a copy, which leaves nothing behind.")] = False,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's TOML file.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The daemon's. Default: ~/.local/share/hearth.")
    ] = None,
) -> None:
    """Check that this version can upgrade the database.

    Also while a daemon runs, of this or an older version. The upgrade itself is the daemon's: it sets a copy aside and
    upgrades at its next start. Exit status 0: that will succeed, or nothing is to do; 1: it would not start.
    """
    if not check:
        raise typer.BadParameter("the daemon upgrades by itself when it starts; --check tries that on a copy")
    from appliance.store.migration import read_migrations
    from appliance.store.rehearsal import rehearse_upgrade

    path = load_config(config, {"data_dir": data_dir}).data_dir.expanduser().absolute() / "hearth.db"
    rehearsal = rehearse_upgrade(path, read_migrations())
    is_needed = rehearsal.from_schema != rehearsal.to_schema
    if session.is_json:
        schemas = {"fromSchema": rehearsal.from_schema, "toSchema": rehearsal.to_schema}
        return print_json({**schemas, "isNeeded": is_needed, "durationSeconds": round(rehearsal.duration_s, 3)})
    if not is_needed:
        return print_line(f"{path} has the newest schema, {rehearsal.to_schema}, and is sound: nothing to upgrade")
    schemas_text = f"from schema {rehearsal.from_schema} to {rehearsal.to_schema}"
    return print_line(
        f"{path} can be upgraded {schemas_text}: a copy was, in {rehearsal.duration_s:.1f} s, and is sound"
    )


COMMANDS = [Command("upgrade", None, upgrade, ("hearth upgrade --check",), is_local=True)]
