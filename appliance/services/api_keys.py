"""API keys: who makes, sees and revokes them. A secret is shown once and only its hash stays."""

import builtins
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from appliance.domain import ApiKey, Principal, User
from appliance.errors import Code, HearthError
from appliance.services import audit
from appliance.services.access import not_found, require_keys_of, require_member
from appliance.services.contact_details import check_display_name
from appliance.services.deployment_spec import ANNOTATIONS_BYTES_MAX
from appliance.services.identity import Identity
from appliance.services.key_format import format_key, generate_key
from appliance.store import api_keys, users
from appliance.store.database import Database, Transaction

ANY_USER = "-"
"""Stands for all users in the place of a user id."""
DEFAULT_DISPLAY_NAME = "default"


class ApiKeyAsk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a new key is to be; None: not said."""

    display_name: str | None = None
    expire_time: float | None = None
    annotations: Mapping[str, str] | None = None


class CreatedKey(NamedTuple):
    api_key: ApiKey
    key: str
    """The whole key, for the one time it is shown."""


class ApiKeys:
    def __init__(self, database: Database, identity: Identity) -> None:
        self._database = database
        self._identity = identity

    async def create(self, principal: Principal, account_id: str, user_id: str, ask: ApiKeyAsk) -> CreatedKey:
        """One's own, or as an administrator anybody's: so service accounts get theirs."""
        require_keys_of(principal, account_id, user_id)
        check(ask)
        async with self._database.transaction() as tx:
            user = await users.get(tx.connection, account_id, user_id)
            if user is None:
                raise not_found(f"accounts/{account_id}/users/{user_id}")
            created = await add(tx, user, ask)
            await audit.record(tx, principal, created.api_key.name, audit.fields_given(ask))
        return created

    async def get(self, principal: Principal, account_id: str, user_id: str, key_id: str) -> ApiKey:
        """`user_id` may be ANY_USER."""
        for key in await self.list(principal, account_id, user_id):
            if key.id == key_id:
                return key
        raise not_found(f"keyId: API key {key_id!r}", "keyId")

    async def list(self, principal: Principal, account_id: str, user_id: str) -> builtins.list[ApiKey]:
        """Everybody sees whose keys there are; `user_id` may be ANY_USER."""
        require_member(principal, account_id)
        async with self._database.reader() as db:
            found = await api_keys.list_in_account(db, account_id)
        return [key for key in found if user_id in (ANY_USER, key.user_id)]

    async def delete(self, principal: Principal, account_id: str, user_id: str, key_id: str) -> None:
        """`user_id` may be ANY_USER. Requests that the key has begun go on; no new one begins."""
        require_member(principal, account_id)
        async with self._identity.changing() as tx:
            key = await api_keys.find(tx.connection, key_id)
            if key is None or key.account_id != account_id or user_id not in (ANY_USER, key.user_id):
                raise not_found(f"keyId: API key {key_id!r}", "keyId")
            require_keys_of(principal, account_id, key.user_id)
            await api_keys.delete(tx, account_id, key_id)
            await audit.record(tx, principal, key.name)


async def add(tx: Transaction, user: User, ask: ApiKeyAsk) -> CreatedKey:
    if ask.expire_time is not None and ask.expire_time <= tx.now:
        raise HearthError(Code.INVALID, "apiKey.expireTime: lies in the past", "apiKey.expireTime")
    parts = generate_key()
    api_key = ApiKey(
        account_id=user.account_id,
        user_id=user.id,
        id=parts.id,
        display_name=ask.display_name or DEFAULT_DISPLAY_NAME,
        secret_sha256=parts.secret_sha256,
        annotations=dict(ask.annotations or {}),
        created_at=tx.now,
        expires_at=ask.expire_time,
        email=user.email,
    )
    await api_keys.insert(tx, api_key)
    return CreatedKey(api_key, format_key(parts))


def check(ask: ApiKeyAsk) -> None:
    check_display_name(ask.display_name or "", "apiKey.displayName")
    if len(msgspec.json.encode(ask.annotations)) > ANNOTATIONS_BYTES_MAX:
        message = f"apiKey.annotations: at most {ANNOTATIONS_BYTES_MAX} bytes"
        raise HearthError(Code.INVALID, message, "apiKey.annotations")
