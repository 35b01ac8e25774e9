"""`[name(city="Ulm", days=3), …]`, Python calls as the whole answer: Llama 3.2 and 4. Arguments become JSON."""

import json
import string
from collections.abc import Sequence
from typing import Any

import msgspec

from models.text_reader import Malformed, Step
from models.tool_parsers.json_text import DEPTH_MAX, copy_number, copy_object
from models.tool_parsers.lark import literal, repeated
from models.tool_parsers.parser import OfferedTool, Terminal, ToolParser

_NAME_CHARACTERS = string.ascii_letters + string.digits + "_-"
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
_ESCAPE_LENGTHS = {"x": 2, "u": 4, "U": 8}
_PLAIN_SCHEMA_KEYS = {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}
_SHARED_KEYS = ("$defs", "definitions", "x-guidance")
"""Of the whole schema, needed wherever a part of it stands alone."""


class PythonicParser(ToolParser):
    """A function whose parameters are no plain list of properties is called as `name(**{…})`."""

    markers = ("<|python_start|>", "<|python_end|>", "<|python_tag|>")
    openings = ("<|python_start|>", "<|python_tag|>")
    is_opening_needed = False
    bare_openings = "["

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        calls = repeated("call", literal(", "), is_parallel=is_parallel)
        rules = f"rest: {literal('[')} {calls} {literal(']')}\n"
        rules += "call: " + " | ".join(f"tool_{index}" for index in range(len(tools))) + "\n"
        return rules + "".join(_tool_rules(index, tool) for index, tool in enumerate(tools))

    def _parse(self) -> Step[None]:
        yield from self._attempt(self._calls(""))
        yield from super()._parse()

    def _calls(self, marker: str) -> Step[None]:
        self._reader.hold()
        yield from self._reader.skip_space()
        if not marker:
            for tag in self.openings:
                yield from self._reader.take_if(tag)
        yield from self._reader.skip_space()
        yield from self._reader.expect("[")
        while True:
            yield from self._reader.skip_space()
            yield from self._call()
            yield from self._reader.skip_space()
            if (yield from self._reader.take_if("]")):
                break
            yield from self._reader.expect(",")
        yield from self._reader.skip_space()
        yield from self._reader.take_if("<|python_end|>")

    def _call(self) -> Step[None]:
        self._reader.hold()
        name = yield from self._reader.take_while(_NAME_CHARACTERS)
        if name not in self._names:
            raise Malformed
        yield from self._reader.expect("(")
        self._begin(name)
        yield from self._reader.skip_space()
        if (yield from self._reader.take_if("**")):
            yield from self._reader.skip_space()
            yield from copy_object(self._reader, self._emit_arguments)
            yield from self._reader.skip_space()
            self._end()
            yield from self._reader.expect(")")
        else:
            yield from self._keywords()
            self._end()

    def _keywords(self) -> Step[None]:
        self._emit_arguments("{")
        separator = ""
        while not (yield from self._reader.take_if(")")):
            key = yield from self._reader.take_while(_NAME_CHARACTERS)
            yield from self._reader.skip_space()
            yield from self._reader.expect("=")
            yield from self._reader.skip_space()
            if not key:
                raise Malformed
            self._emit_arguments(f"{separator}{json.dumps(key)}: ")
            separator = ", "
            yield from self._value(DEPTH_MAX)
            yield from self._reader.skip_space()
            if (yield from self._reader.take_if(",")):
                yield from self._reader.skip_space()
            elif (yield from self._reader.peek()) != ")":
                raise Malformed
        self._emit_arguments("}")

    def _value(self, depth: int) -> Step[None]:
        first = yield from self._reader.peek()
        if first in ("'", '"'):
            yield from self._string()
        elif first in ("[", "{", "("):
            yield from self._items(depth - 1)
        elif first.isalpha():
            word = yield from self._reader.take_while(string.ascii_letters)
            if word not in _WORDS:
                raise Malformed
            self._emit_arguments(_WORDS[word])
        else:
            yield from copy_number(self._reader, self._emit_arguments)

    def _items(self, depth: int) -> Step[None]:
        if depth < 0:
            raise Malformed
        is_dict = (yield from self._reader.peek()) == "{"
        closing = {"[": "]", "{": "}", "(": ")"}[(yield from self._reader.take())]
        self._emit_arguments("{" if is_dict else "[")
        separator = ""
        while True:
            yield from self._reader.skip_space()
            if (yield from self._reader.take_if(closing)):
                break
            self._emit_arguments(separator)
            separator = ", "
            if is_dict:
                yield from self._string()
                yield from self._reader.skip_space()
                yield from self._reader.expect(":")
                self._emit_arguments(": ")
                yield from self._reader.skip_space()
            yield from self._value(depth)
            yield from self._reader.skip_space()
            if not (yield from self._reader.take_if(",")) and (yield from self._reader.peek()) != closing:
                raise Malformed
        self._emit_arguments("}" if is_dict else "]")

    def _string(self) -> Step[None]:
        quote = yield from self._reader.take()
        if quote not in ("'", '"'):
            raise Malformed
        self._emit_arguments('"')
        while (character := (yield from self._reader.take())) != quote:
            if character == "\\":
                character = yield from self._escape()
            self._emit_arguments(json.dumps(character, ensure_ascii=False)[1:-1])
        self._emit_arguments('"')

    def _escape(self) -> Step[str]:
        """What an escape stands for, its backslash read; as in Python, one that means nothing stands for itself."""
        character = yield from self._reader.take()
        if character in _ESCAPE_LENGTHS:
            digits = ""
            for _ in range(_ESCAPE_LENGTHS[character]):
                digits += yield from self._reader.take()
            if not all(digit in string.hexdigits for digit in digits) or int(digits, 16) > 0x10FFFF:
                raise Malformed
            return _character(int(digits, 16))
        if character in ("'", '"', "\\"):
            return character
        return _ESCAPES.get(character, "\\" + character)


def _character(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:  # half of a pair is no character
        raise Malformed
    return chr(code)


def _tool_rules(index: int, tool: OfferedTool) -> str:
    schema: dict[str, Any] = msgspec.json.decode(tool.schema)
    properties: dict[str, Any] = schema.get("properties") or {}
    shared = {key: schema[key] for key in _SHARED_KEYS if key in schema}
    is_plain = (
        schema.keys() <= {*_PLAIN_SCHEMA_KEYS, *_SHARED_KEYS}
        and set(schema.get("required") or []) <= properties.keys()
        and all(
            name and set(name) <= set(_NAME_CHARACTERS) and isinstance(properties[name], dict) for name in properties
        )
    )
    if not is_plain:
        head, tail = literal(f"{tool.name}(**"), literal(")")
        return f"tool_{index}: {head} arguments_{index} {tail}\narguments_{index}: %json {tool.schema}\n"
    required = [name for name in properties if name in (schema.get("required") or [])]
    optional = [name for name in properties if name not in required]
    rules = f"tool_{index}: {literal(tool.name + '(')} {_keywords_rule(index, required, optional)} {literal(')')}\n"
    for number, name in enumerate([*required, *optional]):
        value = msgspec.json.encode(properties[name] | shared).decode()
        rules += f"keyword_{index}_{number}: {literal(name + '=')} value_{index}_{number}\n"
        rules += f"value_{index}_{number}: %json {value}\n"
    return rules


def _keywords_rule(index: int, required: list[str], optional: list[str]) -> str:
    """Required ones first, in the schema's order, then any of the others in theirs."""
    keywords = [f"keyword_{index}_{number}" for number in range(len(required) + len(optional))]
    comma = literal(", ")
    if required:
        first = f" {comma} ".join(keywords[: len(required)])
        return first + "".join(f" ({comma} {keyword})?" for keyword in keywords[len(required) :])
    if not optional:
        return '""'
    # Whichever comes first has no comma before it.
    starts = [
        keyword + "".join(f" ({comma} {later})?" for later in keywords[number + 1 :])
        for number, keyword in enumerate(keywords)
    ]
    return "(" + " | ".join(starts) + ")?"
