"""What every dialect's parser is: text in, events out, the same ones however the text is cut.

A call is what names a function that was offered and holds a JSON object of arguments. Whatever looked like a call and
is none comes out as the text that it is; only markup around calls, and space around that, is swallowed. Arguments come
out as JSON text while they are being written, and every character of it has been checked.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import msgspec

from models.text_reader import Malformed, Reader, Step, Text, Unfinished
from models.tool_parsers.json_text import copy_object, read_string, skip_value
from models.tool_parsers.lark import start_rules

_ARGUMENT_KEYS = ("arguments", "parameters")


class CallBegins(NamedTuple):
    name: str


class Arguments(NamedTuple):
    text: str
    """A piece of JSON."""


class CallEnds(NamedTuple):
    """Its arguments are complete."""


Event = Text | CallBegins | Arguments | CallEnds


class OfferedTool(NamedTuple):
    name: str
    schema: str
    """JSON schema of its arguments, as text."""


Terminal = Callable[[str], str]
"""How a grammar writes a marker: as text, or as the special token that it is."""


class ToolParser(ABC):
    """`names`: the functions that were offered. `feed` as text comes, then `finish` once."""

    markers: ClassVar[tuple[str, ...]] = ()
    """Texts that this dialect gives a meaning; in some tokenizers they are special tokens."""
    openings: ClassVar[tuple[str, ...]] = ()
    """Markers that calls may follow, anywhere in an answer; forced ones follow the first."""
    is_opening_needed: ClassVar[bool] = True
    bare_openings: ClassVar[str] = ""
    """Characters that an answer of nothing but calls begins with, where it needs no opening."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._reader = Reader()
        self._events: list[Event] = []
        self._is_open = False
        """A call has begun and its arguments are not complete."""
        self._is_after_call = False
        self._steps = self._parse()

    @staticmethod
    def call_id(call_id: str) -> str:
        """The id as this dialect's templates want it."""
        return call_id

    @classmethod
    def forced_grammar(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        """An answer in Lark that is one call of these functions or (parallel) several, and nothing else."""
        return f"start: {cls._opening(terminal)} rest\n" + cls.rest_rules(tools, terminal, is_parallel=is_parallel)

    @classmethod
    def free_grammar(
        cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool, answer: str | None = None
    ) -> str:
        """An answer in Lark with or without calls: `answer`, a rule's body, or else any text, and text before calls.

        `answer` needs a dialect that opens its calls: a JSON answer and a bare call cannot be told apart in time.
        """
        if answer is not None:
            start = f"start: answer | {cls._opening(terminal)} rest\nanswer: {answer}\n"
        else:
            opening = cls.openings[0] if cls.is_opening_needed else ""
            start = start_rules(opening, cls._opening(terminal), bare=cls.bare_openings)
        return start + cls.rest_rules(tools, terminal, is_parallel=is_parallel)

    @classmethod
    def _opening(cls, terminal: Terminal) -> str:
        return terminal(cls.openings[0]) if cls.is_opening_needed else ""

    @classmethod
    @abstractmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        """Lark rules, `rest` among them: all that follows the opening, or the calls where none is needed."""

    def feed(self, text: str) -> list[Event]:
        self._reader.append(text)
        return self._advance()

    def finish(self) -> list[Event]:
        """What was held back; an unfinished call stays unfinished."""
        self._reader.end()
        return self._advance()

    def _advance(self) -> list[Event]:
        next(self._steps, None)
        events, self._events = self._events, []
        return merge(events)

    # ---- for the dialects

    def _parse(self) -> Step[None]:
        """The whole answer. A dialect whose calls need no marker begins with `_attempt`."""
        while True:
            while text := (yield from self._reader.take_text(self.openings)):
                self._events.append(Text(text))
            try:
                marker = yield from self._reader.take_marker(self.openings)
            except Malformed:
                self._take_back()
                continue
            if marker is None:
                return
            yield from self._attempt(self._calls(marker))

    def _attempt(self, calls: Step[None]) -> Step[None]:
        """Read calls; what turns out to be none is text, from where it no longer can be one."""
        try:
            yield from calls
            yield from self._reader.skip_space()
            self._reader.drop_hold()
        except Unfinished:
            if self._is_open:
                self._events.append(Arguments(self._reader.take_back() + self._reader.take_rest()))
            self._take_back()
        except Malformed:
            self._take_back()
        self._is_open = False

    def _calls(self, marker: str) -> Step[None]:
        """The calls that follow an opening."""
        raise NotImplementedError(f"{type(self).__name__} names openings and does not say what follows them")

    def _object_call(self) -> Step[None]:
        """`{"name": …, "arguments": {…}}`, members in any order."""
        self._reader.hold()
        yield from self._reader.expect("{")
        name, arguments = "", ""
        while True:
            yield from self._reader.skip_space()
            key = yield from read_string(self._reader)
            yield from self._reader.skip_space()
            yield from self._reader.expect(":")
            yield from self._reader.skip_space()
            if key == "name" and not name:
                name = yield from self._offered_name()
            elif key not in _ARGUMENT_KEYS:
                yield from skip_value(self._reader)
            elif arguments:
                raise Malformed
            elif name and (yield from self._reader.peek()) == "{":
                arguments = "sent"
                yield from self._named_call(name)
            else:
                arguments = yield from self._whole_arguments()
            yield from self._reader.skip_space()
            if (yield from self._reader.take_if("}")):
                break
            yield from self._reader.expect(",")
        if not name:
            raise Malformed
        if arguments != "sent":
            self._begin(name)
            self._emit_arguments(arguments or "{}")
            self._end()
        self._reader.settle()

    def _object_calls(self) -> Step[None]:
        """`[{…}, {…}]`."""
        yield from self._reader.expect("[")
        yield from self._listed_calls()

    def _listed_calls(self) -> Step[None]:
        """`{…}, {…}]`."""
        while True:
            yield from self._reader.skip_space()
            yield from self._object_call()
            yield from self._reader.skip_space()
            if (yield from self._reader.take_if("]")):
                return
            yield from self._reader.expect(",")

    def _named_call(self, name: str) -> Step[None]:
        """`{…}`: the arguments of a call whose name was read before."""
        if name not in self._names:
            raise Malformed
        if (yield from self._reader.peek()) != "{":
            raise Malformed
        self._begin(name)
        yield from copy_object(self._reader, self._emit_arguments)
        self._end()

    def _offered_name(self) -> Step[str]:
        name = yield from read_string(self._reader)
        if name not in self._names:
            raise Malformed
        return name

    def _whole_arguments(self) -> Step[str]:
        """An object, null for none, or an object written into a string, as some models do."""
        pieces: list[str] = []
        match (yield from self._reader.peek()):
            case "{":
                yield from copy_object(self._reader, pieces.append)
            case "n":
                yield from self._reader.expect("null")
                return "{}"
            case _:
                pieces.append((yield from read_string(self._reader)))
                try:
                    msgspec.json.decode(pieces[0], type=dict[str, msgspec.Raw])
                except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
                    raise Malformed from error
        return "".join(pieces)

    def _begin(self, name: str) -> None:
        self._reader.settle()
        self._is_open = True
        self._events.append(CallBegins(name))

    def _emit_arguments(self, text: str) -> None:
        self._reader.settle()
        self._events.append(Arguments(text))

    def _end(self) -> None:
        self._is_open, self._is_after_call = False, True
        self._events.append(CallEnds())

    def _take_back(self) -> None:
        text = self._reader.take_back()
        if text and not (self._is_after_call and text.isspace()):
            self._events.append(Text(text))


def merge(events: Sequence[Event]) -> list[Event]:
    """The same events with pieces that follow each other joined."""
    merged: list[Event] = []
    pieces: list[str] = []
    for event in events:
        if isinstance(event, Text | Arguments):
            if pieces and type(merged[-1]) is type(event):
                pieces.append(event.text)
            else:
                _close(merged, pieces)
                pieces = [event.text]
                merged.append(event)
        else:
            _close(merged, pieces)
            pieces = []
            merged.append(event)
    _close(merged, pieces)
    return merged


def _close(merged: list[Event], pieces: list[str]) -> None:
    if len(pieces) > 1:
        merged[-1] = merged[-1]._replace(text="".join(pieces))  # type: ignore[call-arg]
