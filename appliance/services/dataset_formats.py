"""What one line of a dataset must hold, by format, and what it counts for. Pure.

The Structs are the formats. Fields that they do not have are ignored, as the API does, and reported once.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from appliance.domain import DatasetFormat
from appliance.services.dataset_conversation import Message, TextPart, ToolCall, problem_of, shown

NESTING_MAX = 64
BYTES_PER_TOKEN = 4
"""The documented estimate: the UTF-8 bytes of the texts that a model would read, divided by this, …"""
TOKENS_PER_MESSAGE = 4
"""… and this for what a template puts around each message."""

_AT_PATH = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`(?P<path>[^`]*)`)?", re.S)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_INVALID = re.compile(r"Invalid (?:enum )?value '(?P<value>.*)'", re.S)


class Refused(Exception):
    """The line is no example; the text begins with the field at fault."""


class Example(NamedTuple):
    num_tokens: int
    """Estimated."""
    num_turns: int
    ignored: frozenset[str]
    """Names of fields that nothing will use."""


class Function(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct, frozen=True):
    function: Function
    type: str = "function"


class Conversation(msgspec.Struct, frozen=True):
    messages: list[Message]
    tools: list[Tool] | None = None
    weight: float | None = None
    """Of the example among the others."""


class Completion(msgspec.Struct, frozen=True):
    prompt: str
    completion: str
    weight: float | None = None


class Classification(msgspec.Struct, frozen=True):
    text: str
    label: str | int | bool
    weight: float | None = None


ExampleT = TypeVar("ExampleT", Conversation, Completion, Classification)


def parse_line(content: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8 without lone surrogates, finite numbers, an object, not nested too deeply."""
    try:
        if not content.isascii():
            content.decode()  # the decoder counts bytes from the string that it is in
        value = msgspec.json.decode(content)
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise Refused(f"nested more than {NESTING_MAX} deep") from error
    except MemoryError as error:
        raise Refused("takes too much memory to read") from error
    except msgspec.DecodeError as error:
        raise Refused(f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refused("not a JSON object")
    if _is_deep(value, content):
        raise Refused(f"nested more than {NESTING_MAX} deep")
    return value


def detect_format(example: Mapping[str, Any]) -> DatasetFormat | None:
    """By a dataset's first example; None: objects whose fields a job will name."""
    if "messages" in example:
        return DatasetFormat.CHAT if _has_answer(example["messages"]) else DatasetFormat.RL
    if "prompt" in example and "completion" in example:
        return DatasetFormat.COMPLETION
    if "text" in example and "label" in example:
        return DatasetFormat.CLASSIFICATION
    return None


def check_example(value: dict[str, Any], content: bytes, expected: DatasetFormat | None) -> Example:
    """`content` is what `value` was read from. Raises Refused."""
    match expected:
        case None:
            return Example(_tokens(len(content)), 1, frozenset())
        case DatasetFormat.COMPLETION:
            completion = _convert(value, Completion)
            return _example(value, completion, [completion.prompt, completion.completion])
        case DatasetFormat.CLASSIFICATION:
            classification = _convert(value, Classification)
            return _example(value, classification, [classification.text, str(classification.label)])
    conversation = _convert(value, Conversation)
    problem = problem_of(conversation.messages, must_teach=expected is DatasetFormat.CHAT)
    if problem is not None:
        raise Refused(problem)
    example = _example(value, conversation, _texts(conversation))
    num_turns = sum(message.role == "user" for message in conversation.messages)
    return Example(
        example.num_tokens + TOKENS_PER_MESSAGE * len(conversation.messages),
        num_turns,
        # Whoever judges the answers may want any field.
        frozenset() if expected is DatasetFormat.RL else example.ignored,
    )


def _example(value: dict[str, Any], read: Conversation | Completion | Classification, texts: Iterable[str]) -> Example:
    if read.weight is not None and read.weight < 0:
        raise Refused("weight: must not be negative")
    ignored = frozenset(value.keys() - set(read.__struct_fields__))
    return Example(_tokens(sum(map(_num_bytes, texts))), 1, ignored)


def _texts(conversation: Conversation) -> Iterable[str]:
    for tool in conversation.tools or []:
        yield tool.function.name
        yield tool.function.description or ""
        yield msgspec.json.encode(tool.function.parameters).decode()
    for message in conversation.messages:
        if isinstance(message.content, str):
            yield message.content
        else:
            yield from (part.text for part in message.content or [] if isinstance(part, TextPart))
        yield message.reasoning_content or ""
        yield from map(_call_text, message.tool_calls or [])


def _call_text(call: ToolCall) -> str:
    arguments = call.function.arguments
    return call.function.name + (arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode())


def _tokens(num_bytes: int) -> int:
    return -(-num_bytes // BYTES_PER_TOKEN)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _has_answer(messages: object) -> bool:
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("role") == "assistant" for message in messages
    )


def _convert(value: dict[str, Any], kind: type[ExampleT]) -> ExampleT:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Refused(_explain(str(error))) from error


def _explain(message: str) -> str:
    """From msgspec's "Expected `str`, got `int` - at `$.messages[0].role`" to "messages[0].role: expected str, …"."""
    match = _AT_PATH.fullmatch(message)
    assert match is not None
    what, path = match["what"], (match["path"] or "$").removeprefix("$").removeprefix(".")
    if missing := _MISSING.fullmatch(what):
        return f"{path}.{missing['field']}".removeprefix(".") + ": this field is required"
    if invalid := _INVALID.fullmatch(what):
        what = f"{shown(invalid['value'])} is not known here"
    else:
        what = what[:1].lower() + what[1:].replace("`", "")
    return f"{path}: {what}" if path else what


def _is_deep(value: dict[str, Any], content: bytes) -> bool:
    if content.count(b"{") + content.count(b"[") <= NESTING_MAX:
        return False
    level: list[Any] = [value]
    for _ in range(NESTING_MAX):
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        level = [child for child in level if isinstance(child, dict | list)]
        if not level:
            return False
    return True
