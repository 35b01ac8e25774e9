"""An answer in Anthropic's form: blocks of thought, text and calls, and why it ended.

Holds what whole and streamed messages have in common, and the whole one; events are written in `message_stream.py`.
"""

from typing import Any, Literal, NamedTuple

import msgspec

from appliance.api.data.message_stops import StopFinder
from appliance.api.data.performance import Stopwatch
from appliance.api.data.usage import Totals
from appliance.services.generation import Generation
from runtime.protocol import Delta, ToolCallDelta

ID_PREFIX = "msg_"
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class Piece(NamedTuple):
    """What one block gained."""

    kind: Literal["thinking", "text", "tool_use"]
    text: str
    call: ToolCallDelta | None = None


class Blocks:
    """Which block a piece belongs to: the last one, until the kind or the call changes."""

    def __init__(self) -> None:
        self.num_begun = 0
        self._last: tuple[str, int] | None = None

    def begins(self, piece: Piece) -> bool:
        block = piece.kind, 0 if piece.call is None else piece.call.index
        if block == self._last:
            return False
        self._last = block
        self.num_begun += 1
        return True


class Ending:
    """Why and with what counts the one choice ended."""

    def __init__(self, stops: list[str]) -> None:
        self.totals = Totals(1, 1)
        self._stops = StopFinder(stops)
        self._reason: str | None = None

    def add(self, delta: Delta, stopwatch: Stopwatch) -> None:
        self._stops.add(delta)
        if delta.finish_reason is not None:
            self._reason = delta.finish_reason
            self.totals.add(delta)
            stopwatch.add(delta.performance)

    def members(self) -> dict[str, Any]:
        if self._reason is None:
            return {"stop_reason": None, "stop_sequence": None}
        sequence = self._stops.found() if self._reason == "stop" else None
        return {
            "stop_reason": _STOP_REASONS[self._reason] if sequence is None else "stop_sequence",
            "stop_sequence": sequence,
        }

    def usage(self) -> dict[str, int]:
        """Prompt tokens are counted once: where they were read from the cache, or where they were not."""
        usage = self.totals.usage()
        num_cached = usage.prompt_tokens_details.cached_tokens
        return {
            "input_tokens": usage.prompt_tokens - num_cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": num_cached,
            "output_tokens": usage.completion_tokens,
        }


class WholeMessage:
    """What a client gets that waits for the end."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._ending = Ending(generation.stop)
        self.totals = self._ending.totals
        self._blocks = Blocks()
        self._content: list[tuple[Piece, list[str]]] = []
        """The first piece of each block, and the texts of all its pieces."""

    def add(self, deltas: list[Delta], stopwatch: Stopwatch) -> None:
        for delta in deltas:
            for piece in pieces(delta):
                if self._blocks.begins(piece):
                    self._content.append((piece, []))
                self._content[-1][1].append(piece.text)
            self._ending.add(delta, stopwatch)

    def render(self) -> dict[str, Any]:
        self.totals.check_complete()
        content = [block for first, texts in self._content if (block := _whole(first, "".join(texts)))]
        return envelope(self._generation, content, self._ending)


def pieces(delta: Delta) -> list[Piece]:
    """In the order in which a model says them."""
    found = [Piece("thinking", delta.reasoning)] if delta.reasoning else []
    if delta.text:
        found.append(Piece("text", delta.text))
    return found + [Piece("tool_use", call.arguments, call) for call in delta.tool_calls]


def envelope(generation: Generation, content: list[dict[str, Any]], ending: Ending) -> dict[str, Any]:
    """A message as it stands."""
    return {
        "id": ID_PREFIX + generation.request_id,
        "type": "message",
        "role": "assistant",
        "model": generation.model,
        "content": content,
        **ending.members(),
        "usage": ending.usage(),
    }


def empty_block(piece: Piece) -> dict[str, Any]:
    """The block that begins with this piece, without what it says."""
    match piece:
        case Piece("tool_use", _, ToolCallDelta(id=call_id, name=name)):
            return {"type": "tool_use", "id": call_id, "name": name, "input": {}}
        case Piece("thinking"):
            # Nobody verifies it, but clients' types require it.
            return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _whole(first: Piece, text: str) -> dict[str, Any] | None:
    """None for a call that was cut off in the midst of its arguments: a broken object has no place in JSON."""
    block = empty_block(first)
    if first.kind != "tool_use":
        return block | {first.kind: text}
    try:
        return block | {"input": msgspec.json.decode(text or "{}", type=dict[str, Any])}
    except (msgspec.DecodeError, RecursionError):
        return None
