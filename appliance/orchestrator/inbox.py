"""What one task's consumer has not read yet, and whether more is to come.

Holds no more of a generation than the text it produced: unread pieces are merged when they grow many. Knows no socket.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from appliance.errors import HearthError
from runtime.protocol import AnyPiece, Delta, ProtocolError

COALESCE_AT = 64
"""Unread deltas of one request before they are merged; twice its choices if that is more."""

ItemT = TypeVar("ItemT")


class Inbox(ABC, Generic[ItemT]):
    def __init__(self) -> None:
        self.submitted = asyncio.Event()
        """Whether the worker knows of the request."""
        self._unread: list[ItemT] = []
        self._failure: HearthError | None = None
        self._arrived = asyncio.Event()

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether nothing follows; some may be unread still."""

    @abstractmethod
    def put(self, item: ItemT) -> None:
        """Raises ProtocolError for what cannot come now."""

    def fail(self, failure: HearthError) -> None:
        """What is unread stays readable; after it the consumer gets the failure."""
        self._failure = failure
        self._arrived.set()

    async def take(self) -> list[ItemT]:
        """All that is unread; waits for something to come. Raises the failure at the end."""
        await self._arrived.wait()
        if not self._unread and self._failure is not None:
            raise self._failure
        items, self._unread = self._merged(self._unread), []
        if self._failure is None:
            self._arrived.clear()
        return items

    def _merged(self, items: list[ItemT]) -> list[ItemT]:
        return items


class DeltaInbox(Inbox[Delta]):
    """Of a generation; one delta per choice is taken at a time."""

    def __init__(self, num_choices: int) -> None:
        super().__init__()
        self._coalesce_at = max(COALESCE_AT, 2 * num_choices)
        self._unfinished = set(range(num_choices))

    @property
    def is_complete(self) -> bool:
        return not self._unfinished

    def put(self, item: Delta) -> None:
        if item.index not in self._unfinished:
            raise ProtocolError(f"a delta for choice {item.index} of {item.request_id!r}, finished or unknown")
        self._unread.append(item)
        if len(self._unread) >= self._coalesce_at:
            self._unread = coalesce(self._unread)
        if item.finish_reason is not None:
            self._unfinished.remove(item.index)
        self._arrived.set()

    def _merged(self, items: list[Delta]) -> list[Delta]:
        return coalesce(items)


class PieceInbox(Inbox[AnyPiece]):
    """Of every other task."""

    def __init__(self) -> None:
        super().__init__()
        self._has_last = False

    @property
    def is_complete(self) -> bool:
        return self._has_last

    def put(self, item: AnyPiece) -> None:
        if self._has_last:
            raise ProtocolError(f"a piece for {item.request_id!r} after its last one")
        self._unread.append(item)
        self._has_last = item.is_last
        self._arrived.set()


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
