"""Accounts, users and API keys: who a key belongs to, who may make and revoke keys, and the first key of all.

A secret is shown once and only its hash stays. A revoked key is refused from the moment its deletion is acknowledged.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from appliance.config import IdentitySettings
from appliance.domain import Account, ApiKey, Principal, Role, User
from appliance.errors import Code, HearthError
from appliance.services.access import not_found, require_account
from appliance.services.key_format import KeyParts, format_key, generate_key, parse_key
from appliance.store import accounts, api_keys, users
from appliance.store.database import Database, Transaction
from appliance.store.durable_files import write_private

logger = logging.getLogger(__name__)

ADMIN_KEY_FILE = "admin-api-key"
ADMIN_USER_ID = "admin"
ANY_USER = "-"
"""Stands for all users in the place of a user id."""
DISPLAY_NAME_LENGTH_MAX = 63

_NO_SECRET = hashlib.sha256(b"no such key").digest()


class CreatedKey(NamedTuple):
    api_key: ApiKey
    key: str
    """The whole key, for the one time it is shown."""


class _KnownKey(NamedTuple):
    principal: Principal
    expires_at: float | None


class Identity:
    def __init__(self, database: Database, settings: IdentitySettings, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._known: dict[bytes, _KnownKey] = {}
        """By the hash of the whole key. Only keys of the store get in, so it is no larger than the store."""
        self._num_revocations = 0

    async def ensure_first_start(self, data_dir: Path) -> None:
        """Make the accounts, the administrator and his key, each if it is missing.

        A key is made only while no administrator's key is left at all: an operator who moved the file away
        will not find a new key in its place, and one who deleted every key gets in again.
        """
        home, library = self._settings.account_id, self._settings.library_account_id
        async with self._database.transaction() as tx:
            await _ensure_account(tx, home)
            await _ensure_account(tx, library)
            if await users.get(tx.connection, home, ADMIN_USER_ID) is None:
                await users.insert(tx, _administrator(home, tx.now))
            if await api_keys.exists_with_role(tx.connection, home, Role.ADMIN, tx.now):
                return
            parts = generate_key()
            await api_keys.insert(tx, _api_key(parts, home, ADMIN_USER_ID, "first key", tx.now, None))
            # The file first: a key without its row is replaced at the next start, a row without its key locks out.
            path = data_dir / ADMIN_KEY_FILE
            await asyncio.to_thread(write_private, path, f"{format_key(parts)}\n".encode())
        logger.info("wrote the administrator's key to %s", path)

    async def authenticate(self, key: str) -> Principal:
        """Raises `unauthenticated`; the answer tells nothing of which part of a key was wrong."""
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
        known = self._known.get(digest) or await self._look_up(key, digest)
        if known is None or (known.expires_at is not None and known.expires_at <= self._clock()):
            raise HearthError(Code.UNAUTHENTICATED, "the API key is invalid, expired or revoked")
        return known.principal

    async def create_api_key(
        self, principal: Principal, account_id: str, user_id: str, display_name: str, expires_at: float | None
    ) -> CreatedKey:
        self._require_keys_of(principal, account_id, user_id)
        if len(display_name) > DISPLAY_NAME_LENGTH_MAX:
            raise HearthError(
                Code.INVALID, f"displayName: at most {DISPLAY_NAME_LENGTH_MAX} characters", "apiKey.displayName"
            )
        async with self._database.transaction() as tx:
            if expires_at is not None and expires_at <= tx.now:
                raise HearthError(Code.INVALID, "expireTime: lies in the past", "apiKey.expireTime")
            if await users.get(tx.connection, account_id, user_id) is None:
                raise not_found(f"accounts/{account_id}/users/{user_id}")
            parts = generate_key()
            api_key = _api_key(parts, account_id, user_id, display_name, tx.now, expires_at)
            await api_keys.insert(tx, api_key)
        return CreatedKey(api_key, format_key(parts))

    async def list_api_keys(self, principal: Principal, account_id: str, user_id: str) -> list[ApiKey]:
        """Everybody sees whose keys there are; `user_id` may be ANY_USER."""
        self._require_own_account(principal, account_id)
        async with self._database.reader() as db:
            found = await api_keys.list_in_account(db, account_id)
        return [key for key in found if user_id in (ANY_USER, key.user_id)]

    async def delete_api_key(self, principal: Principal, account_id: str, user_id: str, key_id: str) -> None:
        """`user_id` may be ANY_USER. Requests that the key has begun go on; no new one begins."""
        self._require_own_account(principal, account_id)
        try:
            async with self._database.transaction() as tx:
                key = await api_keys.find(tx.connection, key_id)
                if key is None or key.account_id != account_id or user_id not in (ANY_USER, key.user_id):
                    raise not_found(f"API key {key_id!r}", "keyId")
                self._require_keys_of(principal, account_id, key.user_id)
                await api_keys.delete(tx, account_id, key_id)
        finally:
            self._known.clear()
            self._num_revocations += 1  # a look-up that began before must not remember what it finds

    async def get_account(self, principal: Principal, account_id: str) -> Account:
        require_account(principal, account_id, self._settings)
        async with self._database.reader() as db:
            account = await accounts.get(db, account_id)
        if account is None:
            raise not_found(f"accounts/{account_id}")
        return account

    async def get_user(self, principal: Principal, account_id: str, user_id: str) -> User:
        self._require_own_account(principal, account_id)
        async with self._database.reader() as db:
            user = await users.get(db, account_id, user_id)
        if user is None:
            raise not_found(f"accounts/{account_id}/users/{user_id}")
        return user

    async def _look_up(self, key: str, digest: bytes) -> _KnownKey | None:
        parts = parse_key(key)
        if parts is None:
            return None
        num_revocations = self._num_revocations
        async with self._database.reader() as db:
            stored = await api_keys.find(db, parts.id)
            user = None if stored is None else await users.get(db, stored.account_id, stored.user_id)
        # An unknown id costs the same comparison as a wrong secret.
        is_right = hmac.compare_digest(stored.secret_sha256 if stored else _NO_SECRET, parts.secret_sha256)
        if not is_right or stored is None or user is None:
            return None
        principal = Principal(account_id=user.account_id, user_id=user.id, key_id=stored.id, role=user.role)
        known = _KnownKey(principal, stored.expires_at)
        if num_revocations == self._num_revocations:
            self._known[digest] = known
        return known

    def _require_own_account(self, principal: Principal, account_id: str) -> None:
        """Users and keys of the library or of others are nobody's business."""
        if account_id != principal.account_id:
            raise not_found(f"accounts/{account_id}")

    def _require_keys_of(self, principal: Principal, account_id: str, user_id: str) -> None:
        """Everybody manages his own keys, an administrator everybody's. A key can never do more than its user may."""
        self._require_own_account(principal, account_id)
        if user_id != principal.user_id and principal.role is not Role.ADMIN:
            raise HearthError(Code.FORBIDDEN, "only an administrator manages the keys of other users")


async def _ensure_account(tx: Transaction, account_id: str) -> None:
    if await accounts.get(tx.connection, account_id) is None:
        await accounts.insert(tx, Account(id=account_id, display_name=account_id, created_at=tx.now, updated_at=tx.now))


def _administrator(account_id: str, now: float) -> User:
    return User(
        account_id=account_id,
        id=ADMIN_USER_ID,
        display_name="Administrator",
        role=Role.ADMIN,
        created_at=now,
        updated_at=now,
    )


def _api_key(
    parts: KeyParts, account_id: str, user_id: str, display_name: str, now: float, expires_at: float | None
) -> ApiKey:
    return ApiKey(
        account_id=account_id,
        user_id=user_id,
        id=parts.id,
        display_name=display_name,
        secret_sha256=parts.secret_sha256,
        created_at=now,
        expires_at=expires_at,
    )
