"""`hearth … api-key`: keys that clients send. A key is shown once, when it is made."""

from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_line, print_note, print_record, print_table, readable_time
from appliance.sdk.errors import SdkError
from appliance.sdk.resources import ApiKey

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `hearth list api-keys` shows it.")]


def create(
    session: Session,
    display_name: Annotated[
        str, typer.Option("--display-name", "--key-name", metavar="NAME", help="What the key is for.")
    ] = "",
    expire_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it stops working: 2030-01-31T00:00:00Z. Default: never.")
    ] = None,
) -> None:
    """Make an API key and show it, this once."""
    api_key = session.client.api_keys.create(display_name=display_name, expire_time=expire_time)
    if session.is_json:
        return print_json(api_key)
    _show(api_key)
    return print_note("Keep the key now: only its hash is stored, it cannot be shown again.")


def get(session: Session, key_id: KeyId) -> None:
    """Show what is known of a key; the key itself is not."""
    for api_key in session.client.api_keys.list(user_id="-"):
        if api_key.key_id == key_id:
            return print_json(api_key) if session.is_json else _show(api_key)
    raise SdkError(f"there is no API key {key_id!r}")


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the account's keys."""
    api_keys = list(session.client.api_keys.list(user_id="-", filter=only, order_by=order_by))
    if session.is_json:
        return print_json(api_keys)
    rows = [
        [
            api_key.key_id,
            api_key.display_name,
            readable_time(api_key.create_time),
            readable_time(api_key.expire_time) or "never",
        ]
        for api_key in api_keys
    ]
    return print_table(["KEY ID", "DISPLAY NAME", "CREATED", "EXPIRES"], rows)


def delete(session: Session, key_id: KeyId) -> None:
    """Revoke a key. It stops working at once."""
    session.client.api_keys.delete(key_id)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {key_id}")


def _show(api_key: ApiKey) -> None:
    print_record(
        [
            ("Key id", api_key.key_id),
            ("Display name", api_key.display_name),
            ("Key", api_key.key),
            ("Created", readable_time(api_key.create_time)),
            ("Expires", readable_time(api_key.expire_time) or "never"),
        ]
    )


COMMANDS = [
    Command(
        "create",
        "api-key",
        create,
        ("hearth create api-key --display-name ci --expire-time 2030-01-31T00:00:00Z",),
    ),
    Command("get", "api-key", get, ("hearth get api-key KEY_ID",)),
    Command("list", "api-key", list_all, ("hearth list api-keys",)),
    Command("delete", "api-key", delete, ("hearth delete api-key KEY_ID",)),
]
