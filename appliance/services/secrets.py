"""Secrets: values that go in and never come out of the API. At rest they are sealed, each to its own full name.

A value is in no answer, no log line and no message of an error.
"""

import builtins
import re

import msgspec
from msgspec.structs import replace

from appliance.domain import Principal, Secret
from appliance.errors import Code, HearthError
from appliance.names import last_segment, validate_id
from appliance.services import audit
from appliance.services.access import not_found, require_administrator, require_member
from appliance.services.keyring import Keyring
from appliance.store import secrets
from appliance.store.database import Connection, Database

PURPOSE = "secrets/v1"
VALUE_BYTES_MAX = 64 * 1024
_KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class SecretAsk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """None: not said, or as it is."""

    key_name: str | None = None
    value: str | None = None

    def __repr__(self) -> str:
        return "SecretAsk(…)"


class Secrets:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def create(self, principal: Principal, account_id: str, name: str, ask: SecretAsk) -> Secret:
        """`name` is an id or a full name."""
        require_administrator(principal, account_id, "secrets")
        secret_id = validate_id(last_segment(name, account_id, "secrets", "name"), "name")
        if ask.value is None:
            raise HearthError(Code.INVALID, "value: a secret needs one", "value")
        check(ask)
        async with self._database.transaction() as tx:
            unsealed = Secret(
                account_id=account_id,
                id=secret_id,
                key_name=ask.key_name or "",
                sealed_value=b"",
                created_at=tx.now,
                updated_at=tx.now,
            )
            if await secrets.get(tx.connection, account_id, secret_id) is not None:
                raise HearthError(Code.CONFLICT, f"{unsealed.name} already exists", "name")
            secret = self._with_value(unsealed, ask.value)
            await secrets.insert(tx, secret)
            await audit.record(tx, principal, secret.name, audit.fields_given(ask))
        return secret

    async def get(self, principal: Principal, account_id: str, secret_id: str) -> Secret:
        require_member(principal, account_id)
        async with self._database.reader() as db:
            return await _find(db, account_id, secret_id)

    async def list(self, principal: Principal, account_id: str) -> builtins.list[Secret]:
        require_member(principal, account_id)
        async with self._database.reader() as db:
            return await secrets.list_in_account(db, account_id)

    async def update(self, principal: Principal, account_id: str, secret_id: str, ask: SecretAsk) -> Secret:
        require_administrator(principal, account_id, "secrets")
        check(ask)
        async with self._database.transaction() as tx:
            secret = await _find(tx.connection, account_id, secret_id)
            changed = replace(secret, key_name=ask.key_name or secret.key_name, updated_at=tx.now)
            if ask.value is not None:
                changed = self._with_value(changed, ask.value)
            await secrets.update(tx, changed)
            await audit.record(tx, principal, secret.name, audit.fields_given(ask))
        return changed

    async def delete(self, principal: Principal, account_id: str, secret_id: str) -> None:
        require_administrator(principal, account_id, "secrets")
        async with self._database.transaction() as tx:
            secret = await _find(tx.connection, account_id, secret_id)
            await secrets.delete(tx, account_id, secret_id)
            await audit.record(tx, principal, secret.name)

    def _with_value(self, secret: Secret, value: str) -> Secret:
        return replace(secret, sealed_value=self._keyring.seal(PURPOSE, value.encode(), secret.name))


def check(ask: SecretAsk) -> None:
    """Raises `invalid` naming the field and never what it holds: who mixes up two fields has sent a value there."""
    if ask.key_name is not None and not _KEY_NAME.fullmatch(ask.key_name):
        message = "keyName: 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', like the name of an environment variable"
        raise HearthError(Code.INVALID, message, "keyName")
    if ask.value is not None and not 0 < len(ask.value.encode()) <= VALUE_BYTES_MAX:
        raise HearthError(Code.INVALID, f"value: 1 to {VALUE_BYTES_MAX} bytes", "value")


async def _find(db: Connection, account_id: str, secret_id: str) -> Secret:
    secret = await secrets.get(db, account_id, secret_id)
    if secret is None:
        raise not_found(f"accounts/{account_id}/secrets/{secret_id}")
    return secret
