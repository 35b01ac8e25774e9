"""What one request's consumer has not read yet, and how much is still to come.

Holds no more than the text the request produced: unread pieces are merged when they grow many. Knows no socket.
"""

import asyncio

from appliance.errors import HearthError
from runtime.protocol import Delta, ProtocolError

COALESCE_AT = 64
"""Unread deltas of one request before they are merged; twice its choices if that is more."""


class Inbox:
    def __init__(self, num_choices: int) -> None:
        self.is_submitted = False
        """Whether the worker knows of the request."""
        self._coalesce_at = max(COALESCE_AT, 2 * num_choices)
        self._unfinished = set(range(num_choices))
        self._unread: list[Delta] = []
        self._failure: HearthError | None = None
        self._arrived = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether every choice has finished; there may be unread deltas still."""
        return not self._unfinished

    def put(self, delta: Delta) -> None:
        """Raises ProtocolError for a choice that has finished or never was."""
        if delta.index not in self._unfinished:
            raise ProtocolError(f"a delta for choice {delta.index} of {delta.request_id!r}, finished or unknown")
        self._unread.append(delta)
        if len(self._unread) >= self._coalesce_at:
            self._unread = coalesce(self._unread)
        if delta.finish_reason is not None:
            self._unfinished.remove(delta.index)
        self._arrived.set()

    def fail(self, failure: HearthError) -> None:
        """What is unread stays readable; after it the consumer gets the failure."""
        self._failure = failure
        self._arrived.set()

    async def take(self) -> list[Delta]:
        """All that is unread, one delta per choice; waits for something to come. Raises the failure at the end."""
        await self._arrived.wait()
        if not self._unread and self._failure is not None:
            raise self._failure
        deltas, self._unread = coalesce(self._unread), []
        if self._failure is None:
            self._arrived.clear()
        return deltas


def coalesce(deltas: list[Delta]) -> list[Delta]:
    """One delta per choice that says the same as all of its deltas in turn."""
    by_index: dict[int, list[Delta]] = {}
    for delta in deltas:
        by_index.setdefault(delta.index, []).append(delta)
    return [_merge(parts) for parts in by_index.values()]


def _merge(parts: list[Delta]) -> Delta:
    if len(parts) == 1:
        return parts[0]
    has_logprobs = any(part.logprobs is not None for part in parts)
    return Delta(
        request_id=parts[0].request_id,
        index=parts[0].index,
        text="".join(part.text for part in parts),
        token_ids=[token_id for part in parts for token_id in part.token_ids],
        logprobs=[entry for part in parts for entry in part.logprobs or []] if has_logprobs else None,
        finish_reason=parts[-1].finish_reason,
        usage=parts[-1].usage,
        reasoning="".join(part.reasoning for part in parts),
        tool_calls=[piece for part in parts for piece in part.tool_calls],
        raw_text="".join(part.raw_text for part in parts),
        prompt=parts[0].prompt,
        echo_token_ids=parts[0].echo_token_ids,
        performance=parts[-1].performance,
        num_prompt_tokens=parts[0].num_prompt_tokens,
        num_cached_tokens=parts[0].num_cached_tokens,
    )
