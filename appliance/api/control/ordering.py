"""The `orderBy` of lists: `createTime desc, name`. Pure.

A resource's place is a list of plain values, so that a page token can hold it; resources of equal fields stand in the
order of what tells them apart.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from appliance.api.control.fields import Field, Kind, find_field, read_field, reader
from appliance.errors import Code, HearthError

ORDER_FIELDS_MAX = 8
_RANKS = {type(None): 0, bool: 1, int: 2, float: 2, str: 3}

T = TypeVar("T", bound=msgspec.Struct)


class Order(NamedTuple):
    fields: tuple[tuple[Field, bool], ...]
    """Each with whether it descends."""

    def sort(self, resources: list[T]) -> None:
        """By the last field first, for each sort leaves equals as they stand."""
        for field, is_descending in reversed(self.fields):
            resources.sort(key=_rank_of(field), reverse=is_descending)

    def place(self, resource: msgspec.Struct) -> list[Any]:
        """For a token."""
        return [read_field(resource, field) for field, _ in self.fields]

    def sort_key(self, place: list[Any]) -> tuple[Any, ...]:
        """Of what `place` gave."""
        return tuple(
            _Descending(_rank(value)) if is_descending else _rank(value)
            for value, (_, is_descending) in zip(place, self.fields, strict=True)
        )

    def index_after(self, place: list[Any], resources: list[T]) -> int:
        """Of sorted resources, where those begin that stand behind the place."""
        return bisect_right(resources, self.sort_key(place), key=lambda each: self.sort_key(self.place(each)))


class _Descending:
    def __init__(self, key: tuple[int, Any]) -> None:
        self._key = key

    def __lt__(self, other: "_Descending") -> bool:
        return other._key < self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def parse_order(text: str, answer: type[msgspec.Struct], unique: str) -> Order:
    """`unique`: the field that no two resources share. Raises `invalid` naming what cannot be sorted by."""
    parts = [part.split() for part in text.split(",")]
    if len(parts) > ORDER_FIELDS_MAX:
        raise _refusal(f"at most {ORDER_FIELDS_MAX} fields")
    fields = []
    for part in parts:
        match part:
            case [name] | [name, "asc"]:
                fields.append((_sortable(answer, name), False))
            case [name, "desc"]:
                fields.append((_sortable(answer, name), True))
            case _:
                raise _refusal(f"{' '.join(part)[:80]!r} is neither a field nor a field and desc")
    return Order((*fields, (find_field(answer, unique, "orderBy"), False)))


def _sortable(answer: type[msgspec.Struct], name: str) -> Field:
    field = find_field(answer, name, "orderBy")
    if field.kind in (Kind.MAP, Kind.LIST, Kind.OBJECT):
        raise _refusal(f"{field.wire_name} has parts and no order")
    return field


def _rank_of(field: Field) -> Callable[[msgspec.Struct], tuple[int, Any]]:
    read = reader(field)
    return lambda resource: _rank(read(resource))


def _rank(value: Any) -> tuple[int, Any]:
    """Nothing before flags before numbers before texts, so that any two can be compared."""
    return (_RANKS[type(value)], value)


def _refusal(message: str) -> HearthError:
    return HearthError(Code.INVALID, f"orderBy: {message}", "orderBy")
