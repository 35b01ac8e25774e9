"""What was refused, folded: who knocks a thousand times a minute at the same door is two rows of the audit log.

The first of a kind is written within a second or so, how many more of it there were when its minute is over. A kind is
who (or which address) tried which method, and how he was refused. Of a flood of many kinds, those
that are too many share rows that name nobody, so that a minute never makes more than a few hundred.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from appliance.domain import AuditEntry, Origin, Principal
from appliance.errors import Code, HearthError
from appliance.store import audit_logs
from appliance.store.database import Database

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 1.0
WINDOW_S = 60.0
KINDS_MAX = 100
"""Told apart within a minute."""
OUTCOMES = {
    Code.UNAUTHENTICATED: "UNAUTHENTICATED",
    Code.FORBIDDEN: "PERMISSION_DENIED",
    Code.NOT_FOUND: "NOT_FOUND",
    Code.RATE_LIMITED: "RESOURCE_EXHAUSTED",
}
"""The refusals that are logged, by their gRPC names; NOT_FOUND only where it hides another account's."""


class Attempt(msgspec.Struct, frozen=True):
    """What somebody tried."""

    principal: Principal | None
    """None: nobody knows who it was."""
    origin: Origin
    resource: str


class _Fold(msgspec.Struct):
    entry: AuditEntry
    """Of the first one."""
    window: int
    num_unwritten: int = 0
    is_written: bool = False


class AuditDenials:
    def __init__(self, database: Database, account_id: str, clock: Callable[[], float] = time.time) -> None:
        """`account_id`: in whose log it is told when nobody knows who it was."""
        self._database = database
        self._account_id = account_id
        self._clock = clock
        self._folds: dict[object, _Fold] = {}

    def note(self, attempt: Attempt, code: Code) -> None:
        """Costs no disk. `code` is one of OUTCOMES."""
        entry = self._entry(attempt, OUTCOMES[code])
        if _kind(entry) not in self._folds and len(self._folds) >= KINDS_MAX:
            entry = _nameless(entry, self._account_id)
        fold = self._folds.setdefault(_kind(entry), _Fold(entry, self._window()))
        fold.num_unwritten += 1

    async def flush(self) -> None:
        """Write what is new of its kind, and the counts of minutes that are over."""
        taken = self._take_due()
        if not taken:
            return
        with ExitStack() as undo:
            undo.callback(self._put_back, taken)
            async with self._database.transaction() as tx:
                for fold, count in taken:
                    await audit_logs.append(tx, msgspec.structs.replace(fold.entry, at=tx.now, count=count))
            undo.pop_all()

    async def close(self) -> None:
        """After the last request."""
        for fold in self._folds.values():
            fold.is_written = False
        try:
            await self.flush()
        except HearthError as error:
            logger.error("the last refusals are not in the audit log: %s", error.message)

    def _take_due(self) -> list[tuple[_Fold, int]]:
        """At once, so that two flushes never write the same ones."""
        window = self._window()
        taken = []
        for kind, fold in [*self._folds.items()]:
            is_over = fold.window != window
            if fold.num_unwritten and (is_over or not fold.is_written):
                taken.append((fold, fold.num_unwritten))
                fold.num_unwritten, fold.is_written = 0, True
            if is_over:
                del self._folds[kind]
        return taken

    def _put_back(self, taken: list[tuple[_Fold, int]]) -> None:
        for fold, count in taken:
            kept = self._folds.setdefault(_kind(fold.entry), fold)
            kept.num_unwritten += count
            kept.is_written = False

    def _window(self) -> int:
        return int(self._clock() // WINDOW_S)

    def _entry(self, attempt: Attempt, outcome: str) -> AuditEntry:
        who = attempt.principal
        return AuditEntry(
            account_id=self._account_id if who is None else who.account_id,
            at=self._clock(),
            user_account_id="" if who is None else who.account_id,
            user_id="" if who is None else who.user_id,
            key_id="" if who is None else who.key_id,
            role="" if who is None else who.role,
            method=attempt.origin.method,
            resource=attempt.resource,
            outcome=outcome,
            request_id=attempt.origin.request_id,
            client_address=attempt.origin.client_address,
            user_agent=attempt.origin.user_agent,
        )


def _kind(entry: AuditEntry) -> tuple[str, ...]:
    """A method is of one sort of resource; whose of these it was, the first row says."""
    return (entry.user_account_id, entry.user_id, entry.key_id, entry.client_address, entry.method, entry.outcome)


def _nameless(entry: AuditEntry, account_id: str) -> AuditEntry:
    return AuditEntry(
        account_id=account_id,
        at=entry.at,
        user_account_id="",
        user_id="",
        key_id="",
        method="",
        resource="",
        outcome=entry.outcome,
        message="of more kinds than are told apart in a minute",
    )
