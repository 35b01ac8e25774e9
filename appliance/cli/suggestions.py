"""Ids of resources for the shell, while somebody types: asked of the daemon in a moment, or none, and never an error.

By the standard library's plain client: the SDK's takes longer to import than the daemon to answer.
"""

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from appliance.cli.credentials import Asked, Credentials, resolve
from appliance.config import client_environment
from appliance.errors import HearthError

PATIENCE_S = 0.2
"""For each of two or three answers."""
SHOWN_AT_MOST = 200
LIBRARY = "fireworks"
"""Whose models everybody may name by their ids alone."""
NAMING_SOMETHING_NEW = {"create", "import"}


def noun_meant(parameter: str, verb: str, noun: str | None, is_first_argument: bool) -> str | None:
    """Whose ids a parameter of a command takes: `--draft-model` a model's, what is deleted its own noun's."""
    word = parameter.removesuffix("_id").replace("_", "-")
    names_something_new = verb in NAMING_SOMETHING_NEW
    if is_first_argument and noun is not None and not names_something_new:
        return noun
    if names_something_new and word == noun:
        return None
    return "model" if word.endswith("-model") and not word.startswith("deployed") else word


def suggest(collection: str, asked: Asked, beginning: str) -> Sequence[str]:
    """Ids of a collection, by its wire name, that begin so."""
    from http.client import HTTPException

    try:
        credentials = resolve(client_environment(), asked)
        account_id = credentials.account_id or _own_account(credentials)
        accounts = [account_id, LIBRARY] if collection == "models" else [account_id]
        found = {each for account in accounts for each in _ids(credentials, account, collection)}
    except (OSError, ValueError, KeyError, HTTPException, HearthError):
        return []
    return sorted(each for each in found if each.startswith(beginning))


def _own_account(credentials: Credentials) -> str:
    return str(_get(credentials, "/verifyApiKey")["account"]).removeprefix("accounts/")


def _ids(credentials: Credentials, account_id: str, collection: str) -> list[str]:
    path = "/v1/accounts" if collection == "accounts" else f"/v1/accounts/{account_id}/{collection}"
    listed = _get(credentials, f"{path}?pageSize={SHOWN_AT_MOST}").get(collection, [])
    return [str(each.get("keyId") or each["name"].rpartition("/")[2]) for each in listed]


def _get(credentials: Credentials, path: str) -> dict[str, list[dict[str, str]]]:
    from http.client import HTTPConnection, HTTPSConnection

    where = urlsplit(credentials.base_url)
    connect = HTTPSConnection if where.scheme == "https" else HTTPConnection
    connection = connect(where.hostname or "", where.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", where.path + path, headers={"Authorization": f"Bearer {credentials.api_key}"})
        answer: dict[str, list[dict[str, str]]] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()
