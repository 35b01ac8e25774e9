"""What stands at one place of an instance: references followed, and the members that all applied schemas name together.

A schema applies others to the same value: by `$ref`, `allOf`, `anyOf`, `oneOf` and conditions. Which members of an
object are named by none of them is a question to all of them at once.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

from models.json_schema.reading import Schema, keys_of, refuse, step

TOGETHER = ("allOf",)
EITHER = ("anyOf", "oneOf")
CHAIN_MAX = 100
"""Schemas that lead to one another for one value."""
NAMED_MAX = 500_000
CONDITIONS = ("if", "then", "else", "not")


class Members(NamedTuple):
    """Members of an object that are named, in the order of their naming."""

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    is_open: bool = False
    """Any other member may come too."""

    def __or__(self, other: object) -> "Members":
        if not isinstance(other, Members):
            return NotImplemented
        return Members(
            tuple(dict.fromkeys(self.names + other.names)),
            tuple(dict.fromkeys(self.patterns + other.patterns)),
            self.is_open or other.is_open,
        )

    def without(self, other: "Members") -> "Members":
        return Members(
            tuple(name for name in self.names if name not in set(other.names)),
            tuple(pattern for pattern in self.patterns if pattern not in set(other.patterns)),
            self.is_open and not other.is_open,
        )


NOTHING = Members()


class Places:
    """Looks into one schema, read by `reading.py`."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._members: dict[str, Members] = {}
        self._followed: list[str] = []
        self._num_named = 0

    def target(self, reference: object, pointer: str) -> tuple[Schema, str]:
        """What a `$ref` at this pointer leads to, and that schema's own pointer."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            refuse("must lead to a place in this schema, as in #/$defs/name", pointer)
        value: Any = self._root
        keys = keys_of(unquote(reference[1:]))
        for key in keys:
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key[:6]) < len(value):
                value = value[int(key)]
            else:
                refuse(f"leads nowhere: {reference[:100]}", pointer)
        if not isinstance(value, dict | bool):
            refuse(f"leads to no schema: {reference[:100]}", pointer)
        return value, step("", *keys)

    def members(self, schema: Schema, pointer: str) -> Members:
        """All that this schema and those that it applies to the same value name."""
        if not isinstance(schema, dict):
            return NOTHING
        if pointer not in self._members:
            if pointer in self._followed:
                refuse("leads back to itself without an end", pointer)
            if len(self._followed) > CHAIN_MAX:
                refuse("leads through too many schemas", pointer)
            self._followed.append(pointer)
            found = own_members(schema)
            for part, part_pointer in self.applied(schema, pointer):
                found |= self.members(part, part_pointer)
            self._followed.pop()
            self._num_named += len(found.names)
            if self._num_named > NAMED_MAX:
                refuse("names too many members once all references are followed", "")
            self._members[pointer] = found
        return self._members[pointer]

    def members_without(self, schema: dict[str, Any], pointer: str, keyword: str) -> Members:
        """The same, as if one keyword were not there."""
        rest = {name: value for name, value in schema.items() if name != keyword}
        found = own_members(rest)
        for part, part_pointer in self.applied(rest, pointer):
            found |= self.members(part, part_pointer)
        return found

    def applied(self, schema: dict[str, Any], pointer: str) -> Iterator[tuple[Schema, str]]:
        """Schemas that hold for the same value, always or under some condition, with their pointers."""
        if "$ref" in schema:
            yield self.target(schema["$ref"], step(pointer, "$ref"))
        for keyword in (*TOGETHER, *EITHER):
            if isinstance(parts := schema.get(keyword), list):
                for index, part in enumerate(parts):
                    yield part, step(pointer, keyword, index)
        for keyword in CONDITIONS:
            if keyword in schema:
                yield schema[keyword], step(pointer, keyword)
        if isinstance(parts := schema.get("dependentSchemas"), dict):
            for key, part in parts.items():
                yield part, step(pointer, "dependentSchemas", key)


def own_members(schema: dict[str, Any]) -> Members:
    names: list[str] = []
    if isinstance(properties := schema.get("properties"), dict):
        names += properties
    if isinstance(required := schema.get("required"), list):
        names += [name for name in required if isinstance(name, str)]
    patterns = schema.get("patternProperties")
    rests = [schema[keyword] for keyword in ("additionalProperties", "unevaluatedProperties") if keyword in schema]
    return Members(
        tuple(dict.fromkeys(names)),
        tuple(patterns) if isinstance(patterns, dict) else (),
        any(rest is not False for rest in rests),
    )
