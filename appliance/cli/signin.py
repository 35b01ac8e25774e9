"""`hearth signin`, `set-api-key`, `signout` and `whoami`: which key this person uses, where, and whose it is."""

import sys
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.credentials import Profile, keep_profile, read_profiles
from appliance.cli.output import print_json, print_line, print_note, print_record
from appliance.errors import Code, HearthError


def signin(
    session: Session,
    account_id: Annotated[
        str, typer.Argument(metavar="[ACCOUNT]", help="Act in this account. Default: the key's own.")
    ] = "",
) -> None:
    """Check a key against the daemon, and keep it for this profile.

    The key is asked for, or read from what is piped in, or given with --api-key. Its address is kept with it.
    """
    key = session.asked.api_key or _ask_for_key()
    _sign_in(session, key, session.asked.account_id or account_id)


def set_api_key(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY", help="`-` reads it from what is piped in.")],
) -> None:
    """Keep a key for this profile, as `hearth signin` does, but without being asked for it."""
    _sign_in(session, _piped_key() if key == "-" else key, session.asked.account_id or "")


def signout(session: Session) -> None:
    """Forget the key of this profile. It goes on working elsewhere: hearth delete api-key revokes it."""
    file, name = session.environment.credentials_file, session.asked.profile or session.environment.profile
    if name not in read_profiles(file):
        raise HearthError(Code.NOT_FOUND, f"profile {name} is not signed in")
    keep_profile(file, name, None)
    if session.is_json:
        return print_json({})
    return print_line(f"Signed out of profile {name}")


def whoami(session: Session) -> None:
    """Show whose key is used, what it may do, and where it leads."""
    client, credentials = session.client, session.credentials
    holder = client.key_holder
    if session.is_json:
        return print_json(
            {
                "account": f"accounts/{holder.account_id}",
                "user": holder.user,
                "role": holder.role,
                "keyId": holder.key_id,
                "keySource": credentials.api_key_source,
                "actsIn": f"accounts/{client.account_id}",
                "baseUrl": client.base_url,
            }
        )
    return print_record(
        [
            ("Account", f"accounts/{holder.account_id}"),
            ("User", holder.user),
            ("Role", holder.role),
            ("Key", f"fw_{holder.key_id}…, from {credentials.api_key_source}"),
            ("Acts in", f"accounts/{client.account_id}" if client.account_id != holder.account_id else ""),
            ("Base URL", client.base_url),
        ]
    )


def _sign_in(session: Session, key: str, account_id: str) -> None:
    base_url, name = session.credentials.base_url, session.credentials.profile
    with session.connect(api_key=key) as client:
        holder = client.key_holder
        if account_id and account_id != holder.account_id:
            client.accounts.get(account_id)  # raises when the key may not see it
    keep_profile(session.environment.credentials_file, name, Profile(base_url, key, account_id))
    if variable := session.environment.api_key_variable:
        print_note(f"{variable} is set and comes before profile {name}, unless that is named with --profile")
    if session.is_json:
        return print_json({"profile": name, "baseUrl": base_url, "user": holder.user, "role": holder.role})
    return print_line(f"Signed in to {base_url} as {holder.user} ({holder.role}), profile {name}")


def _ask_for_key() -> str:
    if not sys.stdin.isatty():
        return _piped_key()
    return str(typer.prompt("API key", hide_input=True)).strip()


def _piped_key() -> str:
    key = sys.stdin.readline().strip()
    if not key:
        raise typer.BadParameter("there is no key: pipe it in, give --api-key KEY, or use a terminal")
    return key


COMMANDS = [
    Command(
        "signin",
        None,
        signin,
        (
            "hearth signin",
            "hearth signin --base-url http://gpu-box:8080 --profile box",
            "hearth signin my-account --api-key KEY",
        ),
        is_local=True,
    ),
    Command("set-api-key", None, set_api_key, ("hearth set-api-key KEY",), is_local=True),
    Command("signout", None, signout, ("hearth signout", "hearth signout --profile box"), is_local=True),
    Command("whoami", None, whoami, ("hearth whoami", "hearth whoami --profile box -o json"), is_local=True),
]
