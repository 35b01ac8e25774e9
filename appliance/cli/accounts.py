"""`hearth … account`: the tenants of the box. Administrators of the box make and suspend them."""

from enum import StrEnum
from typing import Annotated

import typer

from appliance.cli.api_keys import SHOWN_ONCE, show
from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_note, print_record, print_table, readable_time
from appliance.sdk.accounts import Account


class Reason(StrEnum):
    FAILED_PAYMENTS = "FAILED_PAYMENTS"
    CREDIT_DEPLETED = "CREDIT_DEPLETED"
    MONTHLY_SPEND_LIMIT_EXCEEDED = "MONTHLY_SPEND_LIMIT_EXCEEDED"
    BLOCKED_BY_ABUSE_RULE = "BLOCKED_BY_ABUSE_RULE"


AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id, or full name: accounts/ID.")]
OwnAccountName = Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="Default: the key's own.")]
DisplayName = Annotated[str | None, typer.Option(metavar="NAME", help="Human-readable, fewer than 64 characters.")]
Email = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who to write to about it.")]


def create(
    session: Session,
    account_id: Annotated[str, typer.Argument(metavar="ID", help="Letters a-z, digits and hyphens.")],
    display_name: DisplayName = None,
    email: Email = None,
) -> None:
    """Make an account, with an administrator whose key is shown, this once."""
    created = session.client.accounts.create(account_id, display_name=display_name, email=email)
    if session.is_json:
        return print_json(created)
    _show(session, created)
    show(created.api_key)
    return print_note(SHOWN_ONCE)


def get(session: Session, account: OwnAccountName = None) -> None:
    """Show an account."""
    _show(session, session.client.accounts.get(account or session.client.account_id))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the account of the key; to administrators of the box, all accounts."""
    accounts = list(session.client.accounts.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(accounts)
    rows = [
        [
            account.name.rpartition("/")[2],
            account.display_name,
            account.email,
            account.suspend_state,
            readable_time(account.create_time),
        ]
        for account in accounts
    ]
    return print_table(["ID", "DISPLAY NAME", "EMAIL", "SUSPEND STATE", "CREATED"], rows)


def update(
    session: Session, account: OwnAccountName = None, display_name: DisplayName = None, email: Email = None
) -> None:
    """Change an account's display name or e-mail address."""
    name = account or session.client.account_id
    _show(session, session.client.accounts.update(name, display_name=display_name, email=email))


def suspend(
    session: Session,
    account: AccountName,
    reason: Annotated[
        Reason, typer.Option(metavar="REASON", help=f"What its members read: {', '.join(Reason)}.")
    ] = Reason.BLOCKED_BY_ABUSE_RULE,
) -> None:
    """Let an account only read, from now on."""
    _show(session, session.client.accounts.suspend(account, reason=reason))


def unsuspend(session: Session, account: AccountName) -> None:
    """End the suspension of an account."""
    _show(session, session.client.accounts.unsuspend(account))


def _show(session: Session, account: Account) -> None:
    if session.is_json:
        return print_json(account)
    return print_record(
        [
            ("Name", account.name),
            ("Display name", account.display_name),
            ("Email", account.email),
            ("State", account.state),
            ("Status", account.status.message),
            ("Suspend state", account.suspend_state),
            ("Created", readable_time(account.create_time)),
            ("Updated", readable_time(account.update_time)),
        ]
    )


COMMANDS = [
    Command("create", "account", create, ("hearth create account acme --email it@acme.example",)),
    Command("get", "account", get, ("hearth get account", "hearth get account acme")),
    Command("list", "account", list_all, ("hearth list accounts",)),
    Command("update", "account", update, ("hearth update account --display-name 'Our box'",)),
    Command("suspend", "account", suspend, ("hearth account suspend acme --reason FAILED_PAYMENTS",)),
    Command("unsuspend", "account", unsuspend, ("hearth account unsuspend acme",)),
]
