"""Structs as JSON schemas: what clients send, and what they are answered."""

from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.api.control.wire import Answer
from appliance.api.routing import Content, Route

REFERENCE = "#/components/schemas/{name}"


class Schemas:
    """Of every Struct that some route names."""

    def __init__(self, routes: list[Route]) -> None:
        kinds = list(dict.fromkeys(kind for route in routes for kind in _kinds_of(route)))
        schemas, self._known = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
        self._schema_of = dict(zip(kinds, schemas, strict=True))
        queries = {self._name_of(route.query) for route in routes if route.query is not None}
        self.components = {
            name: _without_required(schema) if name in _masked_names() else schema
            for name, schema in self._known.items()
            if name not in queries
        }

    def of(self, kind: type[msgspec.Struct]) -> dict[str, Any]:
        """A reference."""
        return self._schema_of[kind]

    def properties(self, kind: type[msgspec.Struct]) -> dict[str, dict[str, Any]]:
        """Of a Struct, by the names of the wire."""
        found: dict[str, dict[str, Any]] = self._known[self._name_of(kind)]["properties"]
        return found

    def takes_nothing(self, kind: type[msgspec.Struct]) -> bool:
        """Whether every field may be left out."""
        return not any(field.required for field in msgspec.structs.fields(kind))

    def _name_of(self, kind: type[msgspec.Struct]) -> str:
        reference: str = self._schema_of[kind]["$ref"]
        return reference.rpartition("/")[2]


def _kinds_of(route: Route) -> Iterable[type[msgspec.Struct]]:
    for kind in (route.body, route.answer, route.query, route.event):
        if isinstance(kind, Content):
            kind = kind.fields
        if kind is not None:
            yield kind


def _without_required(schema: dict[str, Any]) -> dict[str, Any]:
    """Any field of a resource may be missing: a readMask left it out, or it is unknown."""
    return {name: value for name, value in schema.items() if name != "required"}


def _masked_names() -> set[str]:
    kinds, names = [Answer], set[str]()
    while kinds:
        kind = kinds.pop()
        names.add(kind.__name__)
        kinds += kind.__subclasses__()
    return names
