"""`hearth … quota`: how much an account, a user or a key may use of what, and how much is used."""

import re
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_record, print_table, readable_time
from appliance.sdk.quotas import NO_LIMIT, Quota

UNLIMITED = "unlimited"

QuotaName = Annotated[str, typer.Argument(metavar="QUOTA", help="As `hearth list quotas` shows it.")]
OfUser = Annotated[str, typer.Option("--user", metavar="ID", help="Of this user, in the place of the account.")]
OfKey = Annotated[str, typer.Option("--key", metavar="ID", help="Of this API key, in the place of the account.")]


def get(session: Session, quota: QuotaName, user: OfUser = "", key: OfKey = "") -> None:
    """Show one quota, and what is used of it."""
    _show(session, session.client.quotas.get(quota, user_id=user, key_id=key))


def list_all(session: Session, user: OfUser = "", key: OfKey = "", only: Filter = "", order_by: OrderBy = "") -> None:
    """Show everything that can be limited, and what is used of it."""
    quotas = list(session.client.quotas.list(user_id=user, key_id=key, filter=only, order_by=order_by))
    if session.is_json:
        return print_json(quotas)
    rows = [[each.id, _used(each), readable_limit(each.value), _maximum(each), each.description] for each in quotas]
    return print_table(["QUOTA", "USED", "LIMIT", "MAXIMUM", "MEANING"], rows)


def update(
    session: Session,
    quota: QuotaName,
    value: Annotated[str, typer.Option(metavar="NUMBER", help=f"At most so much, or {UNLIMITED}.")] = "",
    max_value: Annotated[
        str, typer.Option(metavar="NUMBER", help="How far the account may raise it; for administrators of the box.")
    ] = "",
    user: OfUser = "",
    key: OfKey = "",
) -> None:
    """Limit what may be used, or lift a limit. Holds from the next request on."""
    if not value and not max_value:
        raise typer.BadParameter("give a --value, or a --max-value")
    changed = session.client.quotas.update(
        quota,
        value=parse_limit(value, "--value"),
        max_value=parse_limit(max_value, "--max-value"),
        user_id=user,
        key_id=key,
    )
    _show(session, changed)


def parse_limit(text: str, option: str) -> int | None:
    """None for nothing."""
    if not text:
        return None
    if text.lower() == UNLIMITED:
        return NO_LIMIT
    digits = re.sub(r"[,_]", "", text)
    if not re.fullmatch(r"[0-9]{1,18}", digits):
        raise typer.BadParameter(f"{option}: {text!r} is neither a number nor {UNLIMITED}")
    return int(digits)


def readable_limit(value: str) -> str:
    return UNLIMITED if int(value) == NO_LIMIT else f"{int(value):,}"


def _used(quota: Quota) -> str:
    """A rate without a limit is not counted."""
    if quota.usage is None:
        return "-"
    return f"{round(quota.usage, 2):,g}" if quota.usage < 1e6 else f"{round(quota.usage):,}"


def _maximum(quota: Quota) -> str:
    return "" if int(quota.max_value) == NO_LIMIT else readable_limit(quota.max_value)


def _show(session: Session, quota: Quota) -> None:
    if session.is_json:
        return print_json(quota)
    return print_record(
        [
            ("Name", quota.name),
            ("Meaning", quota.description),
            ("Used", _used(quota)),
            ("Limit", readable_limit(quota.value)),
            ("Maximum", _maximum(quota)),
            ("Changed", readable_time(quota.update_time)),
        ]
    )


COMMANDS = [
    Command("get", "quota", get, ("hearth get quota monthly-tokens",)),
    Command("list", "quota", list_all, ("hearth list quotas", "hearth list quotas --user ada")),
    Command(
        "update",
        "quota",
        update,
        (
            "hearth update quota requests-per-minute --value 600",
            "hearth update quota monthly-tokens --user ada --value 5,000,000",
            "hearth update quota monthly-tokens --user ada --value unlimited",
        ),
    ),
]
