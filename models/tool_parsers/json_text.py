"""JSON read character by character: one value is copied as it comes, and is malformed at its first wrong character.

Line breaks and other control characters inside strings, which models write and JSON forbids, are escaped.
"""

import json
from collections.abc import Callable

from models.text_reader import Malformed, Reader, Step

DEPTH_MAX = 64
Sink = Callable[[str], None]

_DIGITS = "0123456789"
_HEX_DIGITS = "0123456789abcdefABCDEF"
_LITERALS = {"t": "true", "f": "false", "n": "null"}


def copy_object(reader: Reader, sink: Sink) -> Step[None]:
    if (yield from reader.peek()) != "{":
        raise Malformed
    yield from copy_value(reader, sink, DEPTH_MAX)


def copy_value(reader: Reader, sink: Sink, depth: int) -> Step[None]:
    match (yield from reader.peek()):
        case "{":
            yield from _copy_items(reader, sink, depth - 1, "{", "}")
        case "[":
            yield from _copy_items(reader, sink, depth - 1, "[", "]")
        case '"':
            yield from copy_string(reader, sink)
        case "t" | "f" | "n" as first:
            yield from reader.expect(_LITERALS[first])
            sink(_LITERALS[first])
        case _:
            yield from copy_number(reader, sink)


def copy_string(reader: Reader, sink: Sink) -> Step[None]:
    yield from reader.expect('"')
    sink('"')
    while (character := (yield from reader.take())) != '"':
        if character == "\\":
            sink((yield from _escape(reader)))
        elif character < " ":
            sink(json.dumps(character)[1:-1])
        else:
            sink(character)
    sink('"')


def copy_number(reader: Reader, sink: Sink) -> Step[None]:
    if (yield from reader.take_if("-")):
        sink("-")
    if (yield from reader.take_if("0")):
        sink("0")
    else:
        yield from _copy_digits(reader, sink)
    if (yield from reader.take_if(".")):
        sink(".")
        yield from _copy_digits(reader, sink)
    if (yield from reader.peek()) in ("e", "E"):
        sink((yield from reader.take()))
        if (yield from reader.peek()) in ("+", "-"):
            sink((yield from reader.take()))
        yield from _copy_digits(reader, sink)


def read_string(reader: Reader) -> Step[str]:
    """What a string says."""
    pieces: list[str] = []
    yield from copy_string(reader, pieces.append)
    text: str = json.loads("".join(pieces))
    return text


def skip_value(reader: Reader) -> Step[None]:
    yield from copy_value(reader, _ignore, DEPTH_MAX)


def _copy_items(reader: Reader, sink: Sink, depth: int, opening: str, closing: str) -> Step[None]:
    if depth < 0:
        raise Malformed
    yield from reader.expect(opening)
    sink(opening)
    yield from _copy_space(reader, sink)
    if not (yield from reader.take_if(closing)):
        while True:
            if opening == "{":
                yield from copy_string(reader, sink)
                yield from _copy_space(reader, sink)
                yield from reader.expect(":")
                sink(":")
                yield from _copy_space(reader, sink)
            yield from copy_value(reader, sink, depth)
            yield from _copy_space(reader, sink)
            if (yield from reader.take_if(closing)):
                break
            yield from reader.expect(",")
            sink(",")
            yield from _copy_space(reader, sink)
    sink(closing)


def _copy_space(reader: Reader, sink: Sink) -> Step[None]:
    while (yield from reader.peek()) in (" ", "\t", "\n", "\r"):
        sink((yield from reader.take()))


def _copy_digits(reader: Reader, sink: Sink) -> Step[None]:
    digits = yield from reader.take()
    if digits not in _DIGITS:
        raise Malformed
    sink(digits)
    while (character := (yield from reader.peek())) and character in _DIGITS:
        sink((yield from reader.take()))


def _escape(reader: Reader) -> Step[str]:
    """The rest of an escape whose backslash was read."""
    character = yield from reader.take()
    if character != "u":
        if character not in '"\\/bfnrt':
            raise Malformed
        return "\\" + character
    digits = ""
    for _ in range(4):
        digits += yield from reader.take()
    if not all(digit in _HEX_DIGITS for digit in digits):
        raise Malformed
    return "\\u" + digits


def _ignore(_: str) -> None:
    pass
