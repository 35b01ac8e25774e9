"""Reading the audit log: its administrators read their account's, and those of this box the library's as well."""

import time
from collections.abc import AsyncGenerator, Callable

from appliance.config import IdentitySettings
from appliance.domain import Principal
from appliance.errors import Code, HearthError
from appliance.services.access import can_change, not_found
from appliance.services.audit_denials import AuditDenials
from appliance.store import audit_logs
from appliance.store.audit_logs import AuditSearch, LoggedEntry, Place
from appliance.store.database import Database

SPAN_S = 30 * 86400.0
"""How far back a search goes that does not say."""
ROWS_AT_ONCE = 500


class AuditLogs:
    def __init__(
        self,
        database: Database,
        settings: IdentitySettings,
        denials: AuditDenials,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.denials = denials
        self._database = database
        self._settings = settings
        self._clock = clock

    def span(self, from_at: float | None, until_at: float | None) -> tuple[float, float]:
        """The time that is meant; raises `invalid` for one that ends before it begins."""
        if from_at is None:
            from_at = (self._clock() if until_at is None else until_at) - SPAN_S
        if until_at is None:
            until_at = float("inf")
        if until_at <= from_at:
            raise HearthError(Code.INVALID, "endTime: it lies before startTime", "endTime")
        return from_at, until_at

    async def count(self, principal: Principal, asked: AuditSearch) -> int:
        self._require_readable(principal, asked.account_id)
        async with self._database.reader() as db:
            return await audit_logs.count(db, asked)

    async def search(
        self, principal: Principal, asked: AuditSearch, after: Place | None
    ) -> AsyncGenerator[LoggedEntry, None]:
        """One after another, read in pieces, for as long as the caller wants more."""
        self._require_readable(principal, asked.account_id)
        await self.denials.flush()  # what was refused until now is part of the answer
        while True:
            async with self._database.reader() as db:
                found = await audit_logs.search(db, asked, after, ROWS_AT_ONCE)
            for logged in found:
                yield logged
            if len(found) < ROWS_AT_ONCE:
                return
            after = Place(found[-1].entry.at, found[-1].seq)

    def _require_readable(self, principal: Principal, account_id: str) -> None:
        if not can_change(principal, account_id, "", self._settings):
            raise not_found(f"accounts/{account_id}")
