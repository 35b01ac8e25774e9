"""The two ways in which a request's tokens become usage, while it runs and when it ends.

`Plain`, for who has no budget: written with the next flush. `Held`, for who has one: what the store holds is never less
than what the client was sent, and it is settled before the end of the answer goes out.
"""

from typing import Any

from msgspec.structs import replace

from appliance.domain import BudgetHold, TokenCounts, TokenUser
from appliance.services.spending import Amounts, Spending
from appliance.services.tally import Tally
from appliance.services.usage_journal import UsageJournal

COVERED_AHEAD = 256
"""Tokens that the store is told of before they come, so that a stream rarely waits for the disk. After a crash a
request counts for so many at most that nobody saw."""
COVERED_AHEAD_MS = 30_000
"""Of sound, likewise. Pictures are few: each waits for the disk."""


class Plain:
    def __init__(self, journal: UsageJournal, spending: Spending, user: TokenUser) -> None:
        self._journal = journal
        self._spending = spending
        self._user = user
        self._collected = TokenCounts()

    async def note(self, tally: Tally[Any]) -> None:
        """Nothing waits for the disk."""

    def collect(self, tally: Tally[Any]) -> None:
        """What is new since the last time."""
        counts = tally.counts
        if counts != self._collected:
            new = counts.minus(self._collected)
            self._collected = counts
            self._journal.add_tokens({self._user: new})
            self._spending.add_tokens(self._user, new)

    def end(self, tally: Tally[Any]) -> None:
        self.collect(tally)


class Held:
    """`most`: what the request may use."""

    def __init__(
        self, journal: UsageJournal, spending: Spending, user: TokenUser, hold_id: str, most: TokenCounts, held: Amounts
    ) -> None:
        self._journal = journal
        self._spending = spending
        self._user = user
        self._id = hold_id
        self._held = held
        self._most = most
        self._covered = TokenCounts(
            num_prompt_tokens=most.num_prompt_tokens,
            num_completion_tokens=min(most.num_completion_tokens, COVERED_AHEAD),
            audio_ms=min(most.audio_ms, COVERED_AHEAD_MS),
        )
        self._is_settled = False

    async def open(self) -> None:
        """Before the work. Who is cancelled, or refused by the store, calls `end` all the same."""
        self._spending.hold(self._user, self._held)
        await self._journal.open(BudgetHold(id=self._id, user=self._user, counts=self._covered))

    async def note(self, tally: Tally[Any]) -> None:
        """Before what was counted goes out."""
        if tally.is_finished:
            self._settle(tally.counts)
            await self._journal.settle(self._id, tally.counts)
        elif not self._covers(tally.counts):
            self._covered = self._ahead_of(tally, COVERED_AHEAD, COVERED_AHEAD_MS)
            await self._journal.cover(self._id, self._covered)

    def collect(self, tally: Tally[Any]) -> None:
        """In the place of what was thought of the prompt, what a worker counted."""
        known = self._ahead_of(tally, 0, 0)
        if tally.knows_prompts and known.num_prompt_tokens != self._covered.num_prompt_tokens:
            self._covered = replace(
                known,
                num_completion_tokens=max(known.num_completion_tokens, self._covered.num_completion_tokens),
                audio_ms=max(known.audio_ms, self._covered.audio_ms),
            )
            self._journal.note_counts(self._id, self._covered)

    def end(self, tally: Tally[Any]) -> None:
        """However it ended; does nothing more where `note` saw the end."""
        if self._is_settled:
            return
        if tally.has_begun:
            self._settle(tally.counts)
            self._journal.note_settled(self._id, tally.counts)
        else:
            self._settle(TokenCounts())
            self._journal.withdraw(self._id)

    def _settle(self, counts: TokenCounts) -> None:
        self._is_settled = True
        self._spending.release(self._user, self._held)
        self._spending.add_tokens(self._user, counts)

    def _covers(self, counts: TokenCounts) -> bool:
        covered = self._covered
        return (
            counts.num_prompt_tokens <= covered.num_prompt_tokens
            and counts.num_completion_tokens <= covered.num_completion_tokens
            and counts.audio_ms <= covered.audio_ms
            and counts.num_images <= covered.num_images
        )

    def _ahead_of(self, tally: Tally[Any], num_tokens: int, audio_ms: int) -> TokenCounts:
        """What was counted, and so much more; of prompts that nobody has counted yet, what was thought."""
        counts = tally.counts
        num_prompt = counts.num_prompt_tokens
        if not tally.knows_prompts:
            num_prompt = max(num_prompt, self._covered.num_prompt_tokens)
        return TokenCounts(
            num_prompt_tokens=num_prompt,
            num_cached_tokens=counts.num_cached_tokens if tally.knows_prompts else 0,
            num_completion_tokens=_ahead(counts.num_completion_tokens, num_tokens, self._most.num_completion_tokens),
            audio_ms=_ahead(counts.audio_ms, audio_ms, self._most.audio_ms),
            num_images=counts.num_images,
        )


def _ahead(used: int, more: int, most: int) -> int:
    return max(used, min(most, used + more))
