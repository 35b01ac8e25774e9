"""`hearth … secret`: what jobs may use and nobody may read again."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_line, print_record, print_table, readable_time
from appliance.sdk.secrets import Secret

SecretName = Annotated[
    str, typer.Argument(metavar="SECRET", help="Its key name, its id, or full name: accounts/ACCOUNT/secrets/ID.")
]
Value = Annotated[
    str | None, typer.Option("--value", metavar="TEXT", help="The value. Others on this machine may see it here.")
]
FromFile = Annotated[
    str | None, typer.Option("--from-file", metavar="FILE", help="Read the value from a file; '-': standard input.")
]


def create(
    session: Session,
    name: Annotated[
        str, typer.Option("--name", "--key-name", metavar="NAME", help="What programs know it by: WANDB_API_KEY.")
    ],
    value: Value = None,
    from_file: FromFile = None,
) -> None:
    """Store a secret. Its value cannot be shown again."""
    given = _read_value(value, from_file)
    if given is None:
        raise typer.BadParameter("give the value with --value or --from-file")
    _show(session, session.client.secrets.create(_id_of(name), key_name=name, value=given))


def get(session: Session, secret: SecretName) -> None:
    """Show a secret, without its value."""
    _show(session, session.client.secrets.get(_id_of(secret)))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the account's secrets, without their values."""
    secrets = list(session.client.secrets.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(secrets)
    rows = [[secret.name.rpartition("/")[2], secret.key_name, readable_time(secret.update_time)] for secret in secrets]
    return print_table(["ID", "KEY NAME", "CHANGED"], rows)


def update(
    session: Session,
    secret: SecretName,
    name: Annotated[str | None, typer.Option("--name", "--key-name", metavar="NAME", help="The new key name.")] = None,
    value: Value = None,
    from_file: FromFile = None,
) -> None:
    """Change a secret's value, or what programs know it by."""
    changed = session.client.secrets.update(_id_of(secret), key_name=name, value=_read_value(value, from_file))
    _show(session, changed)


def delete(session: Session, secret: SecretName) -> None:
    """Delete a secret."""
    session.client.secrets.delete(_id_of(secret))
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {secret}")


def _id_of(name: str) -> str:
    """WANDB_API_KEY is kept as wandb-api-key; ids and full names are what they are."""
    return name if "/" in name else name.lower().replace("_", "-").replace(".", "-")


def _read_value(value: str | None, from_file: str | None) -> str | None:
    if value is not None and from_file is not None:
        raise typer.BadParameter("give either --value or --from-file")
    if from_file is None:
        return value
    text = sys.stdin.read() if from_file == "-" else Path(from_file).read_text()
    return text.removesuffix("\n")


def _show(session: Session, secret: Secret) -> None:
    if session.is_json:
        return print_json(secret)
    return print_record(
        [
            ("Name", secret.name),
            ("Key name", secret.key_name),
            ("Created", readable_time(secret.create_time)),
            ("Updated", readable_time(secret.update_time)),
        ]
    )


COMMANDS = [
    Command(
        "create",
        "secret",
        create,
        (
            "hearth create secret --name WANDB_API_KEY --from-file wandb-key.txt",
            'printf %s "$TOKEN" | hearth create secret --name HF_TOKEN --from-file -',
        ),
    ),
    Command("get", "secret", get, ("hearth get secret WANDB_API_KEY",)),
    Command("list", "secret", list_all, ("hearth list secrets",)),
    Command("update", "secret", update, ("hearth update secret WANDB_API_KEY --from-file new-key.txt",)),
    Command("delete", "secret", delete, ("hearth delete secret WANDB_API_KEY",)),
]
