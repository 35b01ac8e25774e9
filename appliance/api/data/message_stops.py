"""Which stop sequence ended an answer. The worker only says that one did, or a token that ends every answer.

It is told from the bytes of the tokens, which come with their logprobs: a stop sequence is complete with the last one.
"""

from runtime.protocol import Delta


class StopFinder:
    """`add` all deltas; without stop sequences that costs nothing."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = [(stop, stop.encode()) for stop in stops]
        self._num_kept = max((len(text) for _, text in self._stops), default=0)
        self._tail = b""
        self._last = b""
        """The end of `_tail` that the last token brought."""

    def add(self, delta: Delta) -> None:
        if not self._stops:
            return
        for token in delta.logprobs or []:
            self._last = token.token
            self._tail = self._tail[-self._num_kept :] + self._last

    def found(self) -> str | None:
        """The one that was complete first, as the worker chooses; of those complete together, the longest."""
        complete = []
        for stop, text in self._stops:
            start = self._tail.find(text, max(0, len(self._tail) - len(self._last) - len(text) + 1))
            if start >= 0:
                complete.append((start + len(text), start, stop))
        return min(complete)[2] if complete else None
