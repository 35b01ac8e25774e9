"""Messages in Anthropic's form: blocks in, and out of them the turns that a chat template knows.

What is said is not changed, with two exceptions. A result that is an error is headed so, for no template has a place
for it; a thought that somebody else encrypted is left out, for nobody here can read it.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

import msgspec

from appliance.api.data.chat import join_texts
from appliance.api.data.generation import invalid
from appliance.api.data.image_parts import ImageSource
from runtime.submission import ChatMessage, ImagePart, TextPart, ToolCall, ToolCallFunction

ERROR_HEAD = "Error: "


class Base64Source(msgspec.Struct, tag_field="type", tag="base64"):
    data: str
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class UrlSource(msgspec.Struct, tag_field="type", tag="url"):
    url: str


class TextBlock(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class SystemBlock(msgspec.Struct):
    """Text is all that there is of the system; alone of its kind, it has to name it all the same."""

    type: Literal["text"]
    text: str


class ImageBlock(msgspec.Struct, tag_field="type", tag="image"):
    source: Base64Source | UrlSource


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str


class RedactedThinkingBlock(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None


Block = TextBlock | ImageBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock


class InputMessage(msgspec.Struct):
    role: Literal["user", "assistant"]
    content: str | list[Block]


class _Place(NamedTuple):
    """A block and its name in the request."""

    param: str
    block: Block


def to_system(system: str | list[SystemBlock] | None) -> list[ChatMessage]:
    text = system if isinstance(system, str) else "".join(block.text for block in system or [])
    return [ChatMessage(role="system", content=text)] if text else []


def to_chat_messages(message: InputMessage, param: str, images: dict[str, bytes]) -> list[ChatMessage]:
    """Of a user's message one for each result of a tool, and one for what stands between them."""
    if isinstance(message.content, str):
        return [ChatMessage(role=message.role, content=message.content)]
    places = list(_places(message.content, f"{param}.content"))
    if message.role == "assistant":
        return [_assistant_turn(places)]
    turns = []
    for is_result, group in groupby(places, key=lambda place: isinstance(place.block, ToolResultBlock)):
        run = list(group)
        turns += [_result(place, images) for place in run] if is_result else [_user_turn(run, images)]
    return turns or [ChatMessage(role="user", content="")]


def image_sources(messages: list[InputMessage]) -> Iterator[ImageSource]:
    """All images, those inside of results included, in the order in which they are shown."""
    for index, message in enumerate(messages):
        for place in _places(message.content, f"messages[{index}].content"):
            for param, block in _with_inner(place):
                if isinstance(block, ImageBlock):
                    yield ImageSource(f"{param}.source", _url(block))


def _with_inner(place: _Place) -> Iterator[_Place]:
    yield place
    if isinstance(place.block, ToolResultBlock):
        yield from _places(place.block.content, f"{place.param}.content")


def _places(content: str | Sequence[Block] | None, param: str) -> Iterator[_Place]:
    """A text alone has no blocks."""
    if content is not None and not isinstance(content, str):
        yield from (_Place(f"{param}[{index}]", block) for index, block in enumerate(content))


def _url(image: ImageBlock) -> str:
    match image.source:
        case UrlSource(url=url):
            return url
        case Base64Source(data=data, media_type=media_type):
            return f"data:{media_type};base64,{data}"


def _assistant_turn(places: list[_Place]) -> ChatMessage:
    texts, thoughts, calls = [], [], []
    for param, block in places:
        match block:
            case TextBlock(text=text):
                texts.append(text)
            case ThinkingBlock(thinking=thought):
                thoughts.append(thought)
            case ToolUseBlock(id=call_id, name=name, input=arguments):
                function = ToolCallFunction(name=name, arguments=msgspec.json.encode(arguments).decode())
                calls.append(ToolCall(id=call_id, function=function))
            case ImageBlock() | ToolResultBlock():
                raise invalid(f"{param}.type", "no block of an assistant's message")
    return ChatMessage(
        role="assistant",
        content="".join(texts) if texts or not calls else None,
        reasoning_content="".join(thoughts) or None,
        tool_calls=calls,
    )


def _user_turn(places: list[_Place], images: dict[str, bytes]) -> ChatMessage:
    return ChatMessage(role="user", content=join_texts([_part(place, images) for place in places]))


def _result(place: _Place, images: dict[str, bytes]) -> ChatMessage:
    result = place.block
    assert isinstance(result, ToolResultBlock)
    head = [TextPart(text=ERROR_HEAD)] if result.is_error else []
    if isinstance(result.content, list):
        said = [_part(inner, images) for inner in _places(result.content, f"{place.param}.content")]
    else:
        said = [TextPart(text=result.content or "")]
    return ChatMessage(role="tool", content=join_texts([*head, *said]), tool_call_id=result.tool_use_id)


def _part(place: _Place, images: dict[str, bytes]) -> TextPart | ImagePart:
    match place.block:
        case TextBlock(text=text):
            return TextPart(text=text)
        case ImageBlock():
            return ImagePart(data=images[f"{place.param}.source"])
    raise invalid(f"{place.param}.type", "no block of a user's message")
