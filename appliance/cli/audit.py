"""`hearth audit verify`: whether the audit log of a data directory is as it was written. Needs no daemon and no key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import print_error, print_json, print_line
from appliance.config import load_config
from appliance.errors import Code, HearthError

if TYPE_CHECKING:
    from appliance.store.audit_logs import Link

NOT_WHOLE = 1
"""Exit status."""


def verify(
    session: Session,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's TOML file.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The daemon's. Default: ~/.local/share/hearth.")
    ] = None,
    master_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: master-key in the data directory.")
    ] = None,
    head: Annotated[
        str,
        typer.Option(metavar="SEQ:HASH", help="An end of the log that you wrote down; the daemon logs it at its end."),
    ] = "",
) -> None:
    """Check every row of the audit log: none changed, none missing, none moved, none cut off the end.

    Reads files only, also while the daemon runs. Exit status 1 says that something is wrong, and with which row first.
    """
    # Imported here: `hearth --help` should not pay for the daemon's parts.
    from appliance.services.audit_verification import verify_log
    from appliance.services.keyring import load_keyring

    settings = load_config(config, {"data_dir": data_dir, "master_key_file": master_key_file})
    directory = settings.data_dir.expanduser().absolute()
    keyring = load_keyring(settings.master_key_file or directory / "master-key", may_make=False)
    verdict = verify_log(directory / "hearth.db", keyring.derive("audit/v1"), _read_head(head))
    if session.is_json:
        found = {"sound": not verdict.problem, "problem": verdict.problem, "firstBadRow": verdict.seq}
        print_json({**found, "soundRows": verdict.last.seq, "head": f"{verdict.last.seq}:{verdict.last.hash.hex()}"})
    elif verdict.problem:
        print_error(f"the audit log of {directory} is not whole: {verdict.problem}")
    else:
        print_line(f"{verdict.last.seq} rows, all sound; the last is {verdict.last.seq}:{verdict.last.hash.hex()}")
        for seq in verdict.losses:
            print_line(f"row {seq} tells of an earlier loss: hearth audit-logs list --filter id={seq}")
    if verdict.problem:
        raise typer.Exit(NOT_WHOLE)


def _read_head(text: str) -> "Link | None":
    from appliance.store.audit_logs import Link

    if not text:
        return None
    try:
        seq, digest = text.split(":")
        return Link(int(seq), bytes.fromhex(digest))
    except ValueError as error:
        raise HearthError(Code.INVALID, f"--head: {text[:100]!r} is not of the form SEQ:HASH", "head") from error


COMMANDS = [
    Command(
        "verify",
        "audit",
        verify,
        ("hearth audit verify", "hearth audit verify --data-dir /var/lib/hearth --head 1041:9f0c…"),
        is_local=True,
    ),
]
