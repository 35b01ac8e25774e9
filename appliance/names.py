"""Resource names: parse, build, validate. `accounts/acme/models/my-model` and the ids inside it."""

import re
import secrets
from typing import NamedTuple

from appliance.errors import Code, HearthError

ID_LENGTH_MAX = 63
_ID = re.compile(r"[a-z0-9-]*")
_GENERATED_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class ResourceName(NamedTuple):
    """`accounts/{account_id}/{collection}/{resource_id}`; collection is the wire's plural, e.g. `deployedModels`."""

    account_id: str
    collection: str
    resource_id: str

    def __str__(self) -> str:
        return f"accounts/{self.account_id}/{self.collection}/{self.resource_id}"


def account_of(name: str) -> str:
    """The account id in any full name that we made: `accounts/{account_id}` or what is below it."""
    prefix, account_id, *_ = name.split("/")
    assert prefix == "accounts", name
    return account_id


def parse_name(text: str, collection: str, param: str) -> ResourceName:
    """Read a full resource name of one collection; raises `invalid` naming `param` otherwise."""
    match text.split("/"):
        case ["accounts", account_id, found, resource_id] if found == collection:
            validate_id(account_id, param)
            validate_id(resource_id, param)
            return ResourceName(account_id, collection, resource_id)
    raise HearthError(Code.INVALID, f"{param}: {text!r} is not of the form accounts/ID/{collection}/ID", param)


def last_segment(text: str, account_id: str, collection: str, param: str) -> str:
    """An id given either bare or as a full name of this account (some clients percent-encode the full name)."""
    if "/" not in text:
        return text
    name = parse_name(text, collection, param)
    if name.account_id != account_id:
        raise HearthError(Code.INVALID, f"{param}: {text!r} names another account than the path", param)
    return name.resource_id


def validate_id(resource_id: str, param: str) -> str:
    """Enforce the documented id rules and say which one broke; returns the id."""
    if not resource_id:
        rule = "must not be empty"
    elif len(resource_id) > ID_LENGTH_MAX:
        rule = f"must have at most {ID_LENGTH_MAX} characters, has {len(resource_id)}"
    elif not _ID.fullmatch(resource_id):
        rule = "may contain only a-z, 0-9 and '-'"
    elif resource_id[0].isdigit():
        rule = "must not start with a digit"
    elif resource_id.startswith("-") or resource_id.endswith("-"):
        rule = "must not start or end with '-'"
    else:
        return resource_id
    shown = resource_id if len(resource_id) <= ID_LENGTH_MAX else resource_id[:ID_LENGTH_MAX] + "…"
    raise HearthError(Code.INVALID, f"{param}: id {shown!r} {rule}", param)


def generate_id(length: int = 12) -> str:
    """A random id that satisfies the rules; its first character is a letter."""
    head = secrets.choice(_GENERATED_ID_ALPHABET[:26])
    return head + "".join(_GENERATED_ID_ALPHABET[byte % 32] for byte in secrets.token_bytes(length - 1))
