"""`hearth … api-key`: keys that clients send. A key is shown once, when it is made."""

from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.deployment_options import read_time
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_line, print_note, print_record, print_table, readable_time
from appliance.sdk.api_keys import ApiKey

SHOWN_ONCE = "Keep the key now: only its hash is stored, it cannot be shown again."

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `hearth list api-keys` shows it.")]


def create(
    session: Session,
    display_name: Annotated[
        str | None, typer.Option("--display-name", "--key-name", metavar="NAME", help="What the key is for.")
    ] = None,
    service_account: Annotated[
        str | None,
        typer.Option("--service-account", "--user-id", metavar="ID", help="For this one, as an administrator."),
    ] = None,
    expire_time: Annotated[
        str, typer.Option(metavar="TIME", help="When it stops working: YYYY-MM-DD[ HH:MM:SS] UTC. Default: never.")
    ] = "",
    annotation: Annotated[
        list[str] | None, typer.Option("--annotation", metavar="KEY=VALUE", help="For your own use; may be repeated.")
    ] = None,
) -> None:
    """Make an API key and show it, this once."""
    api_key = session.client.api_keys.create(
        display_name=display_name,
        expire_time=read_time(expire_time),
        annotations=_read_annotations(annotation or []),
        user_id=service_account,
    )
    if session.is_json:
        return print_json(api_key)
    show(api_key)
    return print_note(SHOWN_ONCE)


def get(session: Session, key_id: KeyId) -> None:
    """Show what is known of a key; the key itself is not."""
    api_key = session.client.api_keys.get(key_id)
    return print_json(api_key) if session.is_json else show(api_key)


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the account's keys."""
    api_keys = list(session.client.api_keys.list(user_id="-", filter=only, order_by=order_by))
    if session.is_json:
        return print_json(api_keys)
    rows = [
        [
            api_key.key_id,
            api_key.display_name,
            api_key.user.rpartition("/")[2],
            readable_time(api_key.create_time),
            readable_time(api_key.expire_time) or "never",
            readable_time(api_key.last_used) or "never",
        ]
        for api_key in api_keys
    ]
    return print_table(["KEY ID", "DISPLAY NAME", "USER", "CREATED", "EXPIRES", "LAST USED"], rows)


def delete(session: Session, key_id: KeyId) -> None:
    """Revoke a key. It stops working at once."""
    session.client.api_keys.delete(key_id)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {key_id}")


def show(api_key: ApiKey) -> None:
    print_record(
        [
            ("Key id", api_key.key_id),
            ("Display name", api_key.display_name),
            ("User", api_key.user),
            ("Email", api_key.email),
            ("Key", api_key.key),
            ("Annotations", ", ".join(f"{name}={value}" for name, value in api_key.annotations.items())),
            ("Created", readable_time(api_key.create_time)),
            ("Expires", readable_time(api_key.expire_time) or "never"),
            ("Last used", readable_time(api_key.last_used) or "never"),
        ]
    )


def _read_annotations(texts: list[str]) -> dict[str, str] | None:
    parts = [text.partition("=") for text in texts]
    for text, (name, separator, _) in zip(texts, parts, strict=True):
        if not name or not separator:
            raise typer.BadParameter(f"--annotation: {text!r} is not of the form KEY=VALUE")
    return {name: value for name, _, value in parts} or None


COMMANDS = [
    Command(
        "create",
        "api-key",
        create,
        (
            "hearth create api-key --display-name laptop --expire-time 2030-01-31",
            "hearth create api-key --key-name ci --service-account ci-bot",
        ),
    ),
    Command("get", "api-key", get, ("hearth get api-key KEY_ID",)),
    Command("list", "api-key", list_all, ("hearth list api-keys", "hearth list api-keys --filter 'user:ada'")),
    Command("delete", "api-key", delete, ("hearth delete api-key KEY_ID",)),
]
