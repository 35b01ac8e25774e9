"""`hearth … user`: the people of an account, and its service accounts."""

from enum import StrEnum
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_line, print_note, print_record, print_table, readable_time
from appliance.sdk.users import User


class RoleName(StrEnum):
    ADMIN = "admin"
    USER = "user"
    CONTRIBUTOR = "contributor"
    INFERENCE_USER = "inference-user"


UserName = Annotated[str, typer.Argument(metavar="USER", help="Id, or full name: accounts/ACCOUNT/users/ID.")]
Email = Annotated[str | None, typer.Option(metavar="ADDRESS", help="No two users of an account have the same.")]
DisplayName = Annotated[str | None, typer.Option(metavar="NAME", help="Human-readable, fewer than 64 characters.")]
ROLE_HELP = "admin: all; user: resources, also others'; contributor: own resources; inference-user: requests only."


def create(
    session: Session,
    user_id: Annotated[
        str | None, typer.Option("--user-id", metavar="ID", help="Default: made from the e-mail address.")
    ] = None,
    email: Email = None,
    role: Annotated[RoleName, typer.Option(help=ROLE_HELP)] = RoleName.USER,
    service_account: Annotated[
        bool, typer.Option("--service-account", help="A program: it has API keys and no login.")
    ] = False,
    display_name: DisplayName = None,
) -> None:
    """Add somebody to the account, or a service account."""
    user = session.client.users.create(
        user_id, role=role, email=email, service_account=service_account or None, display_name=display_name
    )
    _show(session, user)
    if not session.is_json:
        option = "--service-account" if service_account else "--user-id"
        print_note(f"Make a key for it: hearth create api-key {option} {user.name.rpartition('/')[2]}")


def get(session: Session, user: UserName) -> None:
    """Show a user."""
    _show(session, session.client.users.get(user))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the account's users."""
    users = list(session.client.users.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(users)
    rows = [
        [
            user.name.rpartition("/")[2],
            user.role,
            user.email,
            user.display_name,
            "service account" if user.service_account else "",
            readable_time(user.create_time),
        ]
        for user in users
    ]
    return print_table(["ID", "ROLE", "EMAIL", "DISPLAY NAME", "KIND", "CREATED"], rows)


def update(
    session: Session,
    user: UserName,
    role: Annotated[RoleName | None, typer.Option(help=ROLE_HELP)] = None,
    email: Email = None,
    display_name: DisplayName = None,
) -> None:
    """Change a user. A role counts at once, for existing keys too."""
    _show(session, session.client.users.update(user, role=role, email=email, display_name=display_name))


def delete(session: Session, user: UserName) -> None:
    """Delete a user and revoke all keys of it. What the user made stays."""
    session.client.users.delete(user)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {user}")


def _show(session: Session, user: User) -> None:
    if session.is_json:
        return print_json(user)
    return print_record(
        [
            ("Name", user.name),
            ("Display name", user.display_name),
            ("Email", user.email),
            ("Role", user.role),
            ("Service account", "yes" if user.service_account else "no"),
            ("State", user.state),
            ("Created", readable_time(user.create_time)),
            ("Updated", readable_time(user.update_time)),
        ]
    )


COMMANDS = [
    Command(
        "create",
        "user",
        create,
        (
            "hearth create user --email ada@example.com --role contributor",
            "hearth create user --user-id ci-bot --role inference-user --service-account",
        ),
    ),
    Command("get", "user", get, ("hearth get user ada",)),
    Command("list", "user", list_all, ("hearth list users", "hearth list users --filter 'role=admin'")),
    Command("update", "user", update, ("hearth update user ada --role admin",)),
    Command("delete", "user", delete, ("hearth delete user ada",)),
]
