"""A client's JSON schema becomes one that the grammar engine enforces, whole or in part.

What the engine cannot enforce is left out and listed. What is left is no stricter than the client's schema but for one
rule: an object whose `properties` are given has no others, unless the schema says something of others itself. Pure and
quick: the daemon calls this for every request. Knows no engine; what it takes was found out by trying.
"""

from typing import Any, NamedTuple

import msgspec

from models.json_schema import values
from models.json_schema.alternatives import are_exclusive
from models.json_schema.patterns import PatternError, PatternUnsupported, translate
from models.json_schema.places import NOTHING, Members, Places
from models.json_schema.reading import Schema, read_schema, refuse, step

VALUES_MAX = 50_000
"""Of the result: schemas that are referred to from several places may have to be written several times."""
WHITESPACE = r"(?: |\n[ \t]{0,64})"
"""Between two tokens at most once: a model that knows nothing better would write space for ever."""
_ENGINE_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": WHITESPACE}

UNENFORCEABLE = frozenset(
    {
        "$dynamicRef",
        "$recursiveRef",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "if",
        "not",
        "propertyNames",
        "unevaluatedItems",
        "uniqueItems",
    }
)
"""Unless their value asks for nothing."""
_ASKS_NOTHING: dict[str, tuple[object, ...]] = {
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "not": (False,),
    "propertyNames": (True, {}),
    "unevaluatedItems": (True, {}),
    "uniqueItems": (False,),
}


class PreparedSchema(NamedTuple):
    schema_text: str
    """JSON, with the engine's options in it; may stand wherever a grammar takes a schema."""
    unenforced: list[str]
    """JSON pointers to the keywords of the client's schema that were left out."""


def prepare_schema(schema: object) -> PreparedSchema:
    """An object, a boolean or JSON text; raises SchemaError."""
    read = read_schema(schema)
    if read is False:
        refuse("false allows no value", "")
    return _Preparation(read).run()


class _Definition(NamedTuple):
    schema: Schema
    pointer: str
    around: Members


class _Preparation:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._places = Places(root)
        self._unenforced: dict[str, None] = {}
        self._names: dict[tuple[str, Members], str] = {}
        """Of the result's definitions, by what they are made of."""
        self._waiting: list[tuple[str, _Definition]] = []
        self._num_values = 0

    def run(self) -> PreparedSchema:
        result = self._rewrite(self._root, "", NOTHING)
        assert isinstance(result, dict)
        definitions: dict[str, Any] = {}
        while self._waiting:
            name, (schema, pointer, around) = self._waiting.pop()
            definitions[name] = self._rewrite(schema, pointer, around)
        if definitions:
            result["$defs"] = definitions
        result["x-guidance"] = _ENGINE_OPTIONS
        return PreparedSchema(msgspec.json.encode(result).decode(), list(self._unenforced))

    def _rewrite(self, schema: object, pointer: str, around: Members) -> dict[str, Any] | bool:
        """`around`: members that other schemas name for the same value."""
        self._count(1)
        if schema is True:
            return {}
        if schema is False:
            return False
        if not isinstance(schema, dict):
            refuse("must be a schema: an object or a boolean", pointer)
        self._places.members(schema, pointer)  # refuses what leads back to itself
        result = values.copy_plain_keywords(schema, pointer, self._leave_out)
        self._count(len(result))
        self._rewrite_text(schema, pointer, result)
        self._rewrite_array(schema, pointer, result)
        self._rewrite_object(schema, pointer, around, result)
        self._rewrite_applied(schema, pointer, around, result)
        for keyword, value in schema.items():
            if keyword in UNENFORCEABLE and value not in _ASKS_NOTHING.get(keyword, ()):
                self._leave_out(step(pointer, keyword))
        return result

    # ---- keywords that hold schemas of other places

    def _rewrite_text(self, schema: dict[str, Any], pointer: str, result: dict[str, Any]) -> None:
        if "pattern" in schema:
            pattern = self._translate(schema["pattern"], step(pointer, "pattern"))
            if pattern is not None:
                result["pattern"] = pattern

    def _rewrite_array(self, schema: dict[str, Any], pointer: str, result: dict[str, Any]) -> None:
        items, rest = "prefixItems", "items"
        if isinstance(schema.get("items"), list):  # as it was written until 2019
            items, rest = "items", "additionalItems"
        if items in schema:
            parts = values.list_of_schemas(schema[items], step(pointer, items))
            result["prefixItems"] = [self._inside(part, step(pointer, items, i)) for i, part in enumerate(parts)]
        if rest in schema:
            result["items"] = self._inside(schema[rest], step(pointer, rest))

    def _rewrite_object(self, schema: dict[str, Any], pointer: str, around: Members, result: dict[str, Any]) -> None:
        properties = values.schemas_by_name(schema, "properties", pointer)
        if "properties" in schema:
            result["properties"] = {
                name: self._inside(part, step(pointer, "properties", name)) for name, part in properties.items()
            }
        has_all_patterns = self._rewrite_patterns(schema, pointer, result)
        if "additionalProperties" in schema:
            if has_all_patterns:
                rest = schema["additionalProperties"]
                result["additionalProperties"] = self._inside(rest, step(pointer, "additionalProperties"))
            elif schema["additionalProperties"] not in (True, {}):
                self._leave_out(step(pointer, "additionalProperties"))
        elif has_all_patterns:
            self._close(schema, pointer, around, result)
        self._rewrite_counts(schema, pointer, result)

    def _rewrite_patterns(self, schema: dict[str, Any], pointer: str, result: dict[str, Any]) -> bool:
        """False: some had to be left out, so that nobody knows which members have none."""
        parts = values.schemas_by_name(schema, "patternProperties", pointer)
        place = step(pointer, "patternProperties")
        patterns = {name: self._translate(name, step(place, name)) for name in parts}
        known = {name: pattern for name, pattern in patterns.items() if pattern is not None}
        if not values.are_apart(list(known.values())):
            self._leave_out(place)
            return False
        if known:
            result["patternProperties"] = {
                pattern: self._inside(parts[name], step(place, name)) for name, pattern in known.items()
            }
        return len(known) == len(parts)

    def _close(self, schema: dict[str, Any], pointer: str, around: Members, result: dict[str, Any]) -> None:
        """No members but those that are named, here or around: said by the schema, or the rule where it is silent."""
        rest = schema.get("unevaluatedProperties", "properties" not in schema)
        if rest in (True, {}):
            return
        named = around | self._places.members_without(schema, pointer, "unevaluatedProperties")
        patterns = [self._translate(pattern, pointer) for pattern in named.patterns]
        known = [pattern for pattern in patterns if pattern is not None]
        if named.is_open or len(known) < len(patterns) or not values.are_apart(known):
            if "unevaluatedProperties" in schema:
                self._leave_out(step(pointer, "unevaluatedProperties"))
            return
        self._count(len(named.names))
        for name in named.names:
            result.setdefault("properties", {}).setdefault(name, {})
        for pattern in known:
            result.setdefault("patternProperties", {}).setdefault(pattern, {})
        result["additionalProperties"] = self._inside(rest, step(pointer, "unevaluatedProperties"))

    def _rewrite_counts(self, schema: dict[str, Any], pointer: str, result: dict[str, Any]) -> None:
        """The engine counts members only where none is optional, and counts one that is repeated twice."""
        required = set(schema.get("required", ()))
        is_countable = required.issuperset(result.get("properties", {}))
        for keyword in ("minProperties", "maxProperties"):
            if keyword not in schema:
                continue
            count = values.count_of(schema, keyword, pointer)
            if keyword == "minProperties" and count <= len(required):
                continue
            if is_countable:
                result[keyword] = count
            if not is_countable or (keyword == "minProperties" and count > len(required) + 1):
                self._leave_out(step(pointer, keyword))

    # ---- keywords that hold schemas of the same place

    def _rewrite_applied(self, schema: dict[str, Any], pointer: str, around: Members, result: dict[str, Any]) -> None:
        members = around | self._places.members(schema, pointer)
        if "$ref" in schema:
            target, target_pointer = self._places.target(schema["$ref"], step(pointer, "$ref"))
            result["$ref"] = self._refer(target, target_pointer, members)
        together: list[dict[str, Any] | bool] = []
        if "allOf" in schema:
            together += self._parts(schema, "allOf", pointer, members)
        for keyword in ("anyOf", "oneOf"):
            if keyword not in schema:
                continue
            others = around | self._places.members_without(schema, pointer, keyword)
            parts = self._parts(schema, keyword, pointer, others)
            if keyword == "oneOf" and not are_exclusive(schema["oneOf"], step(pointer, "oneOf"), self._places):
                self._leave_out(step(pointer, "oneOf"))
            if "anyOf" in result:
                together.append({"anyOf": parts})
            else:
                result["anyOf"] = parts
        if together:
            result["allOf"] = together

    def _parts(
        self, schema: dict[str, Any], keyword: str, pointer: str, members: Members
    ) -> list[dict[str, Any] | bool]:
        place = step(pointer, keyword)
        parts = values.list_of_schemas(schema[keyword], place)
        if not parts:
            refuse("must not be empty", place)
        return [self._apply(part, step(place, index), members) for index, part in enumerate(parts)]

    def _apply(self, part: Schema, pointer: str, members: Members) -> dict[str, Any] | bool:
        return self._rewrite(part, pointer, members.without(self._places.members(part, pointer)))

    def _refer(self, schema: Schema, pointer: str, members: Members) -> str:
        around = members.without(self._places.members(schema, pointer))
        key = (pointer, around)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = str(len(self._names))
            self._waiting.append((name, _Definition(schema, pointer, around)))
        return f"#/$defs/{name}"

    # ---- common to all

    def _inside(self, schema: object, pointer: str) -> dict[str, Any] | bool:
        """A schema of another place."""
        return self._rewrite(schema, pointer, NOTHING)

    def _translate(self, pattern: object, pointer: str) -> str | None:
        if not isinstance(pattern, str):
            refuse("must be a regular expression", pointer)
        try:
            return translate(pattern)
        except PatternError as error:
            refuse(f"is no regular expression: {error}", pointer)
        except PatternUnsupported:
            self._leave_out(pointer)
            return None

    def _leave_out(self, pointer: str) -> None:
        self._unenforced[pointer] = None

    def _count(self, num_values: int) -> None:
        self._num_values += num_values
        if self._num_values > VALUES_MAX:
            refuse("is too large once all references are followed", "")
