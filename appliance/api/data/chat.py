"""POST /chat/completions: messages in, the assistant's turn out."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from aiohttp import web

from appliance.api.data.answer import LEGACY_SHAPE, SHAPE
from appliance.api.data.answer_schemas import ChatCompletion, ChatCompletionChunk
from appliance.api.data.generation import Count, decode_generation, invalid, to_generation, unsupported
from appliance.api.data.image_parts import ImageSource, ImageUrl, read_images
from appliance.api.data.reasoning import to_reasoning
from appliance.api.data.rendering import respond
from appliance.api.data.response_format import read_response_format, unenforced_headers
from appliance.api.data.tools import ToolFields, check_enforced, to_tool_choice, to_tools
from appliance.api.routing import Permission, Route, services
from appliance.config import LimitSettings
from runtime.submission import ChatMessage, ChatPrompt, ImagePart, TextPart, ToolCall, ToolCallFunction

_ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None
    image_url: ImageUrl | None = None


class MessageToolCallFunction(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = "{}"


class MessageToolCall(msgspec.Struct):
    function: MessageToolCallFunction
    id: str = ""


class Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    function_call: MessageToolCallFunction | None = None
    """The older form of one tool call."""


class ChatBody(ToolFields, kw_only=True):
    has_turns = True

    messages: list[Message]

    prompt_truncate_len: Count | None = None
    safe_tokenization: bool | None = None


async def create_chat_completion(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    body, headers = await decode_generation(request, ChatBody)
    config = services(request).config
    images = await read_images(_image_sources(body.messages), config.images)
    prompt = _prompt(body, images, config.limits)
    form = read_response_format(body.response_format)
    unenforced = [*form.unenforced, *check_enforced(body, prompt.tools, prompt.tool_choice)]
    generation = to_generation(request, body, [prompt], form.constraint, config.limits)
    shape = LEGACY_SHAPE if body.functions else SHAPE
    return await respond(request, body, generation, shape, headers | unenforced_headers(unenforced))


def _prompt(body: ChatBody, images: dict[str, bytes], limits: LimitSettings) -> ChatPrompt:
    messages = body.messages
    check_number(messages, limits)
    tools = to_tools(body, limits)
    return ChatPrompt(
        messages=[_message(message, f"messages[{i}]", images) for i, message in enumerate(link_functions(messages))],
        tools=tools,
        tool_choice=to_tool_choice(body, tools),
        reasoning=to_reasoning(body.reasoning_effort, body.thinking, body.reasoning_history),
        # Turns can be told apart only in a prompt that is tokenised as a whole.
        max_tokens=None if body.safe_tokenization else body.prompt_truncate_len,
        is_plain_text=bool(body.safe_tokenization),
    )


def check_number(messages: Sequence[object], limits: LimitSettings) -> None:
    if not messages:
        raise invalid("messages", "must not be empty")
    if len(messages) > limits.messages_max:
        raise invalid("messages", f"must have at most {limits.messages_max} messages")


def _message(message: Message, param: str, images: dict[str, bytes]) -> ChatMessage:
    return ChatMessage(
        role=_ROLES[message.role],
        content=_content(message.content, f"{param}.content", images),
        name=message.name,
        tool_calls=[_tool_call(call) for call in message.tool_calls or []],
        tool_call_id=message.tool_call_id,
        reasoning_content=message.reasoning_content,
    )


def _content(
    content: str | list[ContentPart] | None, param: str, images: dict[str, bytes]
) -> str | list[TextPart | ImagePart] | None:
    """`images` are files by the name of their part."""
    if not isinstance(content, list):
        return content
    return join_texts([_part(part, f"{param}[{i}]", images) for i, part in enumerate(content)])


def join_texts(parts: list[TextPart | ImagePart]) -> str | list[TextPart | ImagePart]:
    """Text alone becomes one text."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return "".join(texts) if len(texts) == len(parts) else parts


def _part(part: ContentPart, param: str, images: dict[str, bytes]) -> TextPart | ImagePart:
    match part.type:
        case "text":
            if part.text is None:
                raise invalid(f"{param}.text", "this field is required")
            return TextPart(text=part.text)
        case "image_url":
            return ImagePart(data=images[f"{param}.image_url"])
    raise unsupported(f"{param}.{part.type}")


def _image_sources(messages: list[Message]) -> list[ImageSource]:
    sources = []
    for i, message in enumerate(messages):
        for j, part in enumerate(message.content if isinstance(message.content, list) else []):
            if part.type == "image_url":
                param = f"messages[{i}].content[{j}].image_url"
                if part.image_url is None:
                    raise invalid(param, "this field is required")
                sources.append(ImageSource(param, part.image_url.url))
    return sources


def link_functions(messages: list[Message]) -> list[Message]:
    """Calls and results in the older form, which have no ids, in the newer one: a result belongs to the last call."""
    linked, call_id = [], None
    for position, message in enumerate(messages):
        if message.function_call is not None:
            call_id = f"function_{position}"
            call = MessageToolCall(function=message.function_call, id=call_id)
            message = msgspec.structs.replace(message, tool_calls=[*(message.tool_calls or []), call])
        elif message.role == "function" and message.tool_call_id is None:
            message = msgspec.structs.replace(message, tool_call_id=call_id)
        linked.append(message)
    return linked


def _tool_call(call: MessageToolCall) -> ToolCall:
    arguments = call.function.arguments
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCall(id=call.id, function=ToolCallFunction(name=call.function.name, arguments=arguments))


ROUTES = [
    Route(
        "POST",
        "/inference/v1/chat/completions",
        create_chat_completion,
        Permission.INFER,
        ChatBody,
        answer=ChatCompletion,
        event=ChatCompletionChunk,
    ),
]
