"""The `filter` of lists, in the language of AIP-160 (https://google.aip.dev/160). Pure.

`state=READY AND (displayName:"blue" OR createTime>"2026-01-01T00:00:00Z") -deletable=true`. As there, OR binds closer
than AND, and clauses side by side must all hold. `:` on text means "has in it", on maps and lists "has as member"; `*`
at an end of a value stands for anything. Functions and values without a field are refused, never ignored.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from lark import Lark, Token, Transformer, UnexpectedInput, UnexpectedToken, v_args
from lark.exceptions import VisitError

from appliance.api.control.durations import parse_duration
from appliance.api.control.fields import Field, Kind, find_field, reader
from appliance.errors import Code, HearthError

FILTER_LENGTH_MAX = 2000
PARENTHESES_MAX = 64
"""Each is a step deeper."""

Matches = Callable[[msgspec.Struct], bool]

_GRAMMAR = r"""
    ?start: expression
    ?expression: sequence (_AND sequence)*   -> conjunction
    ?sequence: factor+                       -> conjunction
    ?factor: term (_OR term)*                -> disjunction
    ?term: (_NOT | _MINUS) simple            -> negation
         | simple
    ?simple: WORD COMPARATOR (STRING | WORD | NEGATIVE) -> restriction
           | "(" expression ")"
    _AND.2: /AND\b/
    _OR.2: /OR\b/
    _NOT.2: /NOT\b/
    _MINUS: "-"
    COMPARATOR: "<=" | ">=" | "!=" | "<" | ">" | "=" | ":"
    STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/
    NEGATIVE: /-[0-9][0-9.]*/
    WORD: /[^\s"'()<>=!:,\-][^\s"'()<>=!:,]*/
    %ignore /\s+/
"""
_parser = Lark(_GRAMMAR, parser="lalr")


def parse_filter(text: str, answer: type[msgspec.Struct]) -> Matches:
    """Which resources it lets through. Raises `invalid` saying what cannot be read, or which field there is not."""
    if len(text) > FILTER_LENGTH_MAX:
        raise _refusal(f"at most {FILTER_LENGTH_MAX} characters")
    if not text.strip():
        return lambda resource: True
    if text.count("(") > PARENTHESES_MAX:
        raise _refusal(f"at most {PARENTHESES_MAX} parentheses")
    try:
        matches: Matches = _ToMatches(answer).transform(_parser.parse(text))
    except UnexpectedInput as error:
        message = f"cannot be read at {_place_of(error, text)}; it is made of field=value, AND, OR, NOT and parentheses"
        raise _refusal(message) from error
    except VisitError as error:
        raise error.orig_exc from None
    return matches


@v_args(inline=True)
class _ToMatches(Transformer[Token, Matches]):
    """From the tree to a function, fields and values checked on the way."""

    def __init__(self, answer: type[msgspec.Struct]) -> None:
        super().__init__()
        self._answer = answer

    def conjunction(self, *parts: Matches) -> Matches:
        if len(parts) == 1:
            return parts[0]
        return lambda resource: all(part(resource) for part in parts)

    def disjunction(self, *parts: Matches) -> Matches:
        return lambda resource: any(part(resource) for part in parts)

    def negation(self, part: Matches) -> Matches:
        return lambda resource: not part(resource)

    def restriction(self, name: Token, comparator: Token, value: Token) -> Matches:
        field = find_field(self._answer, str(name), "filter")
        holds = _comparison(field, str(comparator), _unquoted(value))
        read = reader(field)
        return lambda resource: holds(read(resource))


def _comparison(field: Field, comparator: str, text: str) -> Callable[[Any], bool]:
    """Of a field's value with what was written."""
    if comparator == "!=":
        is_equal = _comparison(field, "=", text)
        return lambda value: not is_equal(value)
    if comparator == ":" and text == "*":
        return lambda value: value not in (None, "", [], {})
    match field.kind:
        case Kind.NUMBER:
            return _of_numbers(field, comparator, text)
        case Kind.FLAG:
            return _of_flags(field, comparator, text)
        case Kind.MAP | Kind.LIST:
            if comparator != ":":
                raise _refusal(f"{field.wire_name} has members: ask with {field.wire_name}:{text}")
            return lambda value: value is not None and text in value
        case Kind.OBJECT:
            raise _refusal(f"{field.wire_name} has fields: ask for one of them")
        case Kind.TEXT:
            return _of_texts(comparator, text)


def _of_numbers(field: Field, comparator: str, text: str) -> Callable[[Any], bool]:
    wanted = _number(text)
    if wanted is None:
        raise _refusal(f"{field.wire_name} is a number, not {text[:40]!r}")
    compare = _COMPARE[comparator]
    return lambda value: value is not None and compare(value, wanted)


def _of_flags(field: Field, comparator: str, text: str) -> Callable[[Any], bool]:
    if comparator not in ("=", ":") or text not in ("true", "false"):
        raise _refusal(f"{field.wire_name} is true or false")
    return lambda value: bool(value) is (text == "true")


def _of_texts(comparator: str, text: str) -> Callable[[Any], bool]:
    if comparator == ":":
        return lambda value: text.casefold() in (value or "").casefold()
    if comparator == "=":
        is_equal = _equality(text)
        return lambda value: is_equal(value or "")
    stands = _ordering(comparator, text)
    return lambda value: value is not None and stands(value)


def _equality(text: str) -> Callable[[str], bool]:
    """`90s` is `1m30s`, and a time is the same with another offset."""
    middle = text.strip("*")
    match text[:1] == "*", text[-1:] == "*":
        case True, True:
            return lambda value: middle in value
        case True, False:
            return lambda value: value.endswith(middle)
        case False, True:
            return lambda value: value.startswith(middle)
    seconds, moment = _duration(text), _time(text)
    if seconds is not None:
        return lambda value: _duration(value) == seconds
    if moment is not None:
        return lambda value: _time(value) == moment
    return lambda value: value == text


def _ordering(comparator: str, text: str) -> Callable[[str], bool]:
    """As times, durations or numbers where both are that; else as they stand."""
    compare = _COMPARE[comparator]
    readings = [(read, wanted) for read in (_number, _duration, _time) if (wanted := read(text)) is not None]

    def holds(value: str) -> bool:
        for read, wanted in readings:
            if (found := read(value)) is not None:
                return compare(found, wanted)
        return compare(value, text)

    return holds


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda value, wanted: value == wanted,
    ":": lambda value, wanted: value == wanted,
    "<": lambda value, wanted: value < wanted,
    ">": lambda value, wanted: value > wanted,
    "<=": lambda value, wanted: value <= wanted,
    ">=": lambda value, wanted: value >= wanted,
}


def _number(text: str) -> float | None:
    try:
        return float(text) if text.isascii() else None
    except ValueError:
        return None


def _time(text: str) -> datetime | None:
    """Of RFC 3339, with its offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _duration(text: str) -> float | None:
    """With its unit; a bare number is a number."""
    if not text[-1:].isalpha():
        return None
    try:
        return parse_duration(text, "filter")
    except HearthError:
        return None


def _place_of(error: UnexpectedInput, text: str) -> str:
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return "its end"
    return repr(text[error.pos_in_stream :][:40])


def _unquoted(value: Token) -> str:
    if value.type != "STRING":
        return str(value)
    return "".join(_unescaped(value[1:-1]))


def _unescaped(text: str) -> list[str]:
    characters, rest = [], iter(text)
    for character in rest:
        characters.append(next(rest, "") if character == "\\" else character)
    return characters


def _refusal(message: str) -> HearthError:
    return HearthError(Code.INVALID, f"filter: {message}", "filter")
