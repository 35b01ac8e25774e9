"""Names of special tokens in what a client wrote, kept from becoming special tokens.

A mark, one character that the client did not use, is put inside each such name before the template runs. The tokenizer
then finds no special token there, and the mark's own tokens are left out of the prompt.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from models.conversation import Conversation

_MARKS = range(0xF8FF, 0xE000, -1)
"""Private characters: no text means anything by them."""


def mark_names(conversation: Conversation, names: Iterable[str]) -> tuple[Conversation, str]:
    """The conversation with marks in it, and the mark."""
    written = set("".join(_strings([conversation.messages, conversation.tools])))
    mark = next(chr(code) for code in _MARKS if chr(code) not in written)
    longest_first = sorted((name for name in names if len(name) > 1), key=len, reverse=True)

    def marked(text: str) -> str:
        for name in longest_first:
            text = text.replace(name, name[0] + mark + name[1:])
        return text

    messages = [_mapped(message, marked) for message in conversation.messages]
    tools = [_mapped(tool, marked) for tool in conversation.tools]
    return msgspec.structs.replace(conversation, messages=messages, tools=tools), mark


def _strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _strings(item)
        case dict():
            for key, item in value.items():
                yield str(key)
                yield from _strings(item)


def _mapped(value: Any, change: Any) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [_mapped(item, change) for item in value]
        case dict():
            return {change(key): _mapped(item, change) for key, item in value.items()}
    return value
