"""The field `response_format`: what the answer must look like, checked and prepared for the worker.

What a schema asks for and no grammar can enforce is not enforced, as the API has it, but named in a response header;
a client that said `strict` is refused instead. Knows no other field.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, NoReturn
from urllib.parse import quote

import msgspec

from appliance.errors import Code, HearthError
from models.gbnf import GbnfError, gbnf_to_lark
from models.json_schema.preparation import prepare_schema
from models.json_schema.reading import SchemaError
from runtime.submission import GrammarConstraint, JsonConstraint

UNENFORCED_HEADER = "hearth-unenforced-constructs"
_HEADER_LENGTH_MAX = 2000
_WRAPPER_FIELDS = frozenset({"name", "description", "schema", "strict"})
_SAYS_KIND = ("type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf")
_ANY_OBJECT = {"type": "object"}


class ResponseFormat(msgspec.Struct):
    """As clients send it; only the field that belongs to `type` is looked at."""

    type: Literal["text", "json_object", "json_schema", "grammar"]
    schema: Any = None
    json_schema: Any = None
    grammar: str | None = None


class AnswerFormat(NamedTuple):
    constraint: JsonConstraint | GrammarConstraint | None = None
    """None: any text."""
    unenforced: Sequence[str] = ()
    """Places in the request, for `unenforced_headers`."""


def unenforced_headers(places: Sequence[str]) -> dict[str, str]:
    """What the client is told of all that is not enforced."""
    if not places:
        return {}
    names: list[str] = []
    for place in places:
        names.append(quote(place, safe="/~$[]"))
        if sum(map(len, names)) + 2 * len(names) > _HEADER_LENGTH_MAX:
            names[-1] = "..."
            break
    return {UNENFORCED_HEADER: ", ".join(names)}


def read_response_format(said: ResponseFormat | None) -> AnswerFormat:
    """Raises HearthError naming the field inside `response_format`."""
    match said:
        case None | ResponseFormat(type="text"):
            return AnswerFormat()
        case ResponseFormat(type="json_object"):
            return _json_object(said.schema)
        case ResponseFormat(type="json_schema"):
            return _json_schema(said)
        case ResponseFormat(grammar=grammar):
            return _grammar(grammar)


def _json_object(schema: object) -> AnswerFormat:
    if schema is None:
        schema = _ANY_OBJECT
    if isinstance(schema, dict) and not any(keyword in schema for keyword in _SAYS_KIND):
        schema = {**_ANY_OBJECT, **schema}
    return _constrained(schema, "schema")


def _json_schema(said: ResponseFormat) -> AnswerFormat:
    """The schema itself, or wrapped together with a name; either as JSON or as text that holds it."""
    if said.json_schema is None:
        if said.schema is None:
            _refuse("json_schema", "this field is required")
        return _constrained(said.schema, "schema")
    schema, param = _decode(said.json_schema), "json_schema"
    is_strict = False
    if isinstance(schema, dict) and ("schema" in schema or "name" in schema) and schema.keys() <= _WRAPPER_FIELDS:
        is_strict = schema.get("strict") or False
        if not isinstance(is_strict, bool):
            _refuse("json_schema.strict", "must be true or false")
        schema, param = schema.get("schema"), "json_schema.schema"
        if schema is None:
            _refuse(param, "this field is required")
    return _constrained(schema, param, is_strict=is_strict)


def _decode(value: object) -> object:
    """Text that holds a wrapper; what holds a schema is left to those who know schemas."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return value
    return value


def _grammar(grammar: str | None) -> AnswerFormat:
    if grammar is None:
        _refuse("grammar", "this field is required")
    try:
        gbnf_to_lark(grammar)
    except GbnfError as error:
        _refuse("grammar", str(error))
    return AnswerFormat(GrammarConstraint(gbnf=grammar))


def _constrained(schema: object, field: str, *, is_strict: bool = False) -> AnswerFormat:
    return constrain(schema, f"response_format.{field}", is_strict=is_strict)


def constrain(schema: object, param: str, *, is_strict: bool = False) -> AnswerFormat:
    """What a schema allows; `param` is its name in the request."""
    try:
        prepared = prepare_schema(schema)
    except SchemaError as error:
        _refuse_param(param, str(error))
    if is_strict and prepared.unenforced:
        _refuse_param(param, f"is strict, and {prepared.unenforced[0]} cannot be enforced")
    unenforced = [f"{param}{pointer}" for pointer in prepared.unenforced]
    return AnswerFormat(JsonConstraint(schema=prepared.schema_text), unenforced)


def _refuse(field: str, message: str) -> NoReturn:
    _refuse_param(f"response_format.{field}", message)


def _refuse_param(param: str, message: str) -> NoReturn:
    raise HearthError(Code.INVALID, f"{param}: {message}", param)
