"""What a conversation in a dataset must be: the messages of the chat completions API, in an order that can be learnt.

A system message is optional and comes first; then a user begins, and user and assistant take turns. What tools answer
stands after an assistant's message. Pure.
"""

from typing import Any, Literal

import msgspec

SYSTEM_ROLES = ("system", "developer")
ROLES = (*SYSTEM_ROLES, "user", "assistant", "tool")


class TextPart(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class Link(msgspec.Struct, frozen=True):
    url: str


class ImagePart(msgspec.Struct, frozen=True, tag_field="type", tag="image_url"):
    image_url: Link


class VideoPart(msgspec.Struct, frozen=True, tag_field="type", tag="video_url"):
    video_url: Link


class CalledFunction(msgspec.Struct, frozen=True):
    name: str
    arguments: str | dict[str, Any] = ""


class ToolCall(msgspec.Struct, frozen=True):
    function: CalledFunction
    id: str | None = None
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[TextPart | ImagePart | VideoPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    weight: float | None = None
    """Of an assistant's message; 0: it is not learnt from."""

    @property
    def is_learnt(self) -> bool:
        return self.role == "assistant" and self.weight != 0


def problem_of(messages: list[Message], *, must_teach: bool) -> str | None:
    """The first thing that is wrong with a conversation, with its place; `must_teach`: somebody answers in it."""
    if not messages:
        return "messages: must not be empty"
    before = ""
    for index, message in enumerate(messages):
        if problem := _problem_of_message(message) or _problem_of_turn(message.role, before):
            return f"messages[{index}]{problem}"
        before = message.role
    if must_teach and not any(message.is_learnt for message in messages):
        return "messages: at least one must have the role assistant, and a weight that is not 0"
    return None


def _problem_of_message(message: Message) -> str | None:
    if message.role not in ROLES:
        return f".role: {shown(message.role)} is none of {', '.join(ROLES)}"
    is_assistant = message.role == "assistant"
    if message.content is None and not (is_assistant and (message.tool_calls or message.reasoning_content)):
        return ".content: this field is required"
    if message.tool_calls and not is_assistant:
        return ".tool_calls: only an assistant's message has them"
    if message.weight is not None and message.weight < 0:
        return ".weight: must not be negative"
    return None


def _problem_of_turn(role: str, before: str) -> str | None:
    """`before`: the role of the message before; empty at the beginning."""
    match role:
        case "user" if before == "user":
            return ".role: two user messages in a row; user and assistant take turns"
        case "assistant" if before not in ("user", "tool"):
            return f".role: an assistant's message stands after a user's or a tool's, not {_place(before)}"
        case "tool" if before not in ("assistant", "tool"):
            return f".role: a tool's message stands after an assistant's, not {_place(before)}"
        case "system" | "developer" if before:
            return f".role: a {role} message can only be the first"
    return None


def _place(before: str) -> str:
    return f"after {before}" if before else "first"


def shown(text: str) -> str:
    """Text of a file as an error may repeat it: a short word, or nothing."""
    return repr(text) if len(text) <= 32 and text.replace("-", "_").isidentifier() and text.isascii() else "this"
