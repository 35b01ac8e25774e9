"""The `filter` of lists: comparisons of fields with values, joined by AND, which is what clients send. Pure.

Of AIP-160's grammar this is a part; what lies beyond it is refused, never ignored.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from appliance.errors import Code, HearthError

FILTER_LENGTH_MAX = 2000

_CLAUSE = re.compile(r"""\s*(?P<field>[A-Za-z_]\w*)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[\w./#-]+)""")
_AND = re.compile(r"\s+AND\b")
_ESCAPED = re.compile(r"\\(.)")

T = TypeVar("T")

Fields = Mapping[str, Callable[[T], str]]
"""What a list can be filtered by: wire names, and how they are read."""


class Clause(NamedTuple):
    field: str
    """In lowerCamelCase, however the client spelled it."""
    value: str


def parse_filter(text: str) -> list[Clause]:
    """Every clause has to hold. Raises `invalid` for what this is not."""
    if len(text) > FILTER_LENGTH_MAX:
        raise HearthError(Code.INVALID, f"filter: at most {FILTER_LENGTH_MAX} characters", "filter")
    clauses: list[Clause] = []
    position = 0
    while text[position:].strip():
        if clauses:
            joint = _AND.match(text, position)
            if joint is None:
                raise _refusal(text[position:])
            position = joint.end()
        clause = _CLAUSE.match(text, position)
        if clause is None:
            raise _refusal(text[position:])
        clauses.append(Clause(_camel(clause["field"]), _unquoted(clause["value"])))
        position = clause.end()
    return clauses


def select(text: str, resources: Iterable[T], fields: Fields[T]) -> list[T]:
    """Those that the filter lets through."""
    clauses = parse_filter(text)
    for clause in clauses:
        if clause.field not in fields:
            known = ", ".join(fields)
            raise HearthError(Code.INVALID, f"filter: {clause.field!r} is none of {known}", "filter")
    return [resource for resource in resources if all(fields[field](resource) == value for field, value in clauses)]


def _refusal(rest: str) -> HearthError:
    message = f'filter: this version understands field="value" joined by AND, not {rest.strip()[:80]!r}'
    return HearthError(Code.INVALID, message, "filter")


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in tail)


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value[0] in "\"'" else value
