"""What was used, on its way into the store: many requests' notes in one transaction.

Plain usage waits for the next flush. What a budget limits (`open`, `cover`, `settle`) returns when it is on the disk;
all who wait at a moment share one transaction. A hold that is found at start belongs to a request that died with the
daemon: it becomes usage as it stands. Notes of a transaction that failed are kept for the next one.
"""

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from appliance.domain import AcceleratorUser, BudgetHold, TokenCounts, TokenUser
from appliance.store import accelerator_usage, budget_holds, token_usage
from appliance.store.database import Database, Transaction

logger = logging.getLogger(__name__)

DAY_S = 86400.0


class Notes(msgspec.Struct):
    """What is to be written together, and is written once even if it is noted twice."""

    opened: dict[str, BudgetHold] = {}
    counts: dict[str, TokenCounts] = {}
    """Of holds, by id; so the next two."""
    settled: set[str] = set()
    withdrawn: set[str] = set()
    tokens: dict[TokenUser, TokenCounts] = {}
    accelerators: dict[AcceleratorUser, float] = {}

    @property
    def is_empty(self) -> bool:
        return not any(msgspec.structs.astuple(self))

    def add_tokens(self, used: Mapping[TokenUser, TokenCounts]) -> None:
        for user, counts in used.items():
            self.tokens[user] = self.tokens.get(user, TokenCounts()).plus(counts)

    def add_accelerators(self, used: Mapping[AcceleratorUser, float]) -> None:
        for user, seconds in used.items():
            self.accelerators[user] = self.accelerators.get(user, 0.0) + seconds

    def add(self, later: "Notes") -> None:
        self.opened |= later.opened
        self.counts |= later.counts
        self.settled |= later.settled
        self.withdrawn |= later.withdrawn
        self.add_tokens(later.tokens)
        self.add_accelerators(later.accelerators)

    async def write(self, tx: Transaction) -> None:
        if self.opened:
            await budget_holds.put(tx, self.opened.values())
        if self.counts:
            await budget_holds.count(tx, self.counts)
        if self.settled:
            await budget_holds.settle(tx, self.settled)
        if self.withdrawn:
            await budget_holds.delete(tx, self.withdrawn)
        if self.tokens:
            await token_usage.add(tx, self.tokens)
        if self.accelerators:
            await accelerator_usage.add(tx, self.accelerators)


class UsageJournal:
    def __init__(self, database: Database, kept_days: int) -> None:
        self._database = database
        self._kept_s = kept_days * DAY_S
        self._notes = Notes()
        self._num_noted = 0
        self._num_written = 0
        self._writing: asyncio.Task[None] | None = None

    async def restore(self) -> None:
        """Before the first request."""
        async with self._database.transaction() as tx:
            num_holds = await budget_holds.settle_all(tx)
        if num_holds:
            logger.warning("%d requests that a budget limits died with the last daemon; they count as used", num_holds)

    # ---- written with the next flush

    def add_tokens(self, used: Mapping[TokenUser, TokenCounts]) -> None:
        self._notes.add_tokens(used)
        self._num_noted += 1

    def add_accelerators(self, used: Mapping[AcceleratorUser, float]) -> None:
        self._notes.add_accelerators(used)
        self._num_noted += 1

    def note_counts(self, hold_id: str, counts: TokenCounts) -> None:
        self._notes.counts[hold_id] = counts
        self._num_noted += 1

    def note_settled(self, hold_id: str, counts: TokenCounts) -> None:
        self.note_counts(hold_id, counts)
        self._notes.settled.add(hold_id)

    def withdraw(self, hold_id: str) -> None:
        """Of a request that used nothing, whether or not its hold was written."""
        self._notes.opened.pop(hold_id, None)
        self._notes.withdrawn.add(hold_id)
        self._num_noted += 1

    async def flush(self) -> None:
        """Returns when all that was noted is on the disk."""
        if not self._notes.is_empty or self._writing is not None:
            await self._commit()

    # ---- on the disk when they return

    async def open(self, hold: BudgetHold) -> None:
        self._notes.opened[hold.id] = hold
        self._num_noted += 1
        await self._commit()

    async def cover(self, hold_id: str, counts: TokenCounts) -> None:
        """From now on it has used no less than this."""
        self.note_counts(hold_id, counts)
        await self._commit()

    async def settle(self, hold_id: str, counts: TokenCounts) -> None:
        self.note_settled(hold_id, counts)
        await self._commit()

    # ---- now and then

    async def sweep(self) -> None:
        """Forget what nobody will ask for any more."""
        async with self._database.transaction() as tx:
            await token_usage.delete_before(tx, tx.now - self._kept_s)
            await accelerator_usage.delete_before(tx, tx.now - self._kept_s)

    async def _commit(self) -> None:
        number = self._num_noted
        while self._num_written < number:
            if self._writing is None:
                self._writing = asyncio.create_task(self._write())
            # Who gives up waiting leaves the transaction to the others.
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        notes, number = self._notes, self._num_noted
        self._notes = Notes()
        is_written = False
        try:
            async with self._database.transaction() as tx:
                await notes.write(tx)
            is_written = True
            self._num_written = number
        finally:
            self._writing = None
            if not is_written:
                notes.add(self._notes)
                self._notes = notes
