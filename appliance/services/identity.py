"""Who a key belongs to, and what that user may do now.

What was found is remembered, and forgotten in the same place where a change of it commits: a revoked key, a lesser role
or a suspended account take effect from the moment the change is acknowledged.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from appliance.domain import Principal
from appliance.errors import Code, HearthError
from appliance.services.key_format import parse_key
from appliance.store import accounts, api_keys, users
from appliance.store.database import Database, Transaction

logger = logging.getLogger(__name__)

_NO_SECRET = hashlib.sha256(b"no such key").digest()


class _KnownKey(NamedTuple):
    principal: Principal
    expires_at: float | None


class Identity:
    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[bytes, _KnownKey] = {}
        """By the hash of the whole key. Only keys of the store get in, so it is no larger than the store."""
        self._num_changes = 0
        self._used: dict[tuple[str, str], float] = {}
        """When keys, by account and id, were used since that was last stored."""

    async def authenticate(self, key: str) -> Principal:
        """Raises `unauthenticated`; the answer tells nothing of which part of a key was wrong."""
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
        known = self._known.get(digest) or await self._look_up(key, digest)
        now = self._clock()
        if known is None or (known.expires_at is not None and known.expires_at <= now):
            raise HearthError(Code.UNAUTHENTICATED, "the API key is invalid, expired or revoked")
        self._used[known.principal.account_id, known.principal.key_id] = now
        return known.principal

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Transaction]:
        """A transaction for what a key's answer hangs on: keys, users' roles, accounts' suspension.

        Requests that have begun go on; every later one is looked up again.
        """
        try:
            async with self._database.transaction() as tx:
                yield tx
        finally:
            self._known.clear()
            self._num_changes += 1  # a look-up that began before must not remember what it finds

    async def flush_used(self) -> None:
        """Store when keys were last used; those that are gone stay gone."""
        used = dict(self._used)
        if not used:
            return
        async with self._database.transaction() as tx:
            await api_keys.use(tx, used)
        for key, at in used.items():
            if self._used[key] == at:
                del self._used[key]

    async def close(self) -> None:
        """After the last request."""
        try:
            await self.flush_used()
        except HearthError as error:
            logger.error("when keys were last used is not stored: %s", error.message)

    async def _look_up(self, key: str, digest: bytes) -> _KnownKey | None:
        parts = parse_key(key)
        if parts is None:
            return None
        num_changes = self._num_changes
        async with self._database.reader() as db:
            stored = await api_keys.find(db, parts.id)
            user = None if stored is None else await users.get(db, stored.account_id, stored.user_id)
            account = None if stored is None else await accounts.get(db, stored.account_id)
        # An unknown id costs the same comparison as a wrong secret.
        is_right = hmac.compare_digest(stored.secret_sha256 if stored else _NO_SECRET, parts.secret_sha256)
        if not is_right or stored is None or user is None or account is None:
            return None
        principal = Principal(
            account_id=user.account_id,
            user_id=user.id,
            key_id=stored.id,
            role=user.role,
            suspend_state=account.suspend_state,
        )
        known = _KnownKey(principal, stored.expires_at)
        if num_changes == self._num_changes:
            self._known[digest] = known
        return known
