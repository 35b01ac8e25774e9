"""From deltas to Anthropic's events of a stream: a message begins, its blocks begin, grow and end, it ends.

What a delta's event holds around its text was encoded when the block began; only what is new is encoded per event.
"""

from typing import Any

import msgspec

from appliance.api.data.message_answer import Blocks, Ending, Piece, empty_block, envelope, pieces
from appliance.api.data.performance import Stopwatch
from appliance.services.generation import Generation
from runtime.protocol import Delta

_encode = msgspec.json.Encoder().encode
_DELTA_OF = {
    "text": b'{"type":"text_delta","text":',
    "thinking": b'{"type":"thinking_delta","thinking":',
    "tool_use": b'{"type":"input_json_delta","partial_json":',
}


class MessageEncoder:
    """The events of one stream."""

    def __init__(self, generation: Generation, stopwatch: Stopwatch) -> None:
        self._generation = generation
        self._stopwatch = stopwatch
        self._ending = Ending(generation.stop)
        self._blocks = Blocks()
        self._has_begun = False
        self._open_index: int | None = None
        """Of the block that has begun and not ended."""
        self._head = b""
        """Of the events in which it grows."""

    def encode(self, deltas: list[Delta]) -> bytes:
        """What these deltas show; empty when that is nothing."""
        events = [] if self._has_begun else [self._begin()]
        for delta in deltas:
            for piece in pieces(delta):
                if self._blocks.begins(piece):
                    events += [self._end_block(), self._begin_block(piece)]
                if piece.text:
                    events.append(self._head + _encode(piece.text) + b"}}\n\n")
            self._ending.add(delta, self._stopwatch)
        return b"".join(events)

    def end(self) -> bytes:
        """After the last delta."""
        self._ending.totals.check_complete()
        last = _event("message_delta", {"delta": self._ending.members(), "usage": self._ending.usage()})
        return self._end_block() + last + _event("message_stop", {})

    def _begin(self) -> bytes:
        """Nothing is counted yet: the last event but one tells."""
        self._has_begun = True
        return _event("message_start", {"message": envelope(self._generation, [], self._ending)})

    def _begin_block(self, piece: Piece) -> bytes:
        index = self._open_index = self._blocks.num_begun - 1
        delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % index
        self._head = delta + _DELTA_OF[piece.kind]
        return _event("content_block_start", {"index": index, "content_block": empty_block(piece)})

    def _end_block(self) -> bytes:
        return b"" if self._open_index is None else _event("content_block_stop", {"index": self._open_index})


def _event(name: str, members: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name} | members))
