"""POST /chat/completions: messages in, the assistant's turn out."""

from typing import Any, Literal

import msgspec
from aiohttp import web

from appliance.api.data.generation import GenerationBody, decode_generation, invalid, to_generation, unsupported
from appliance.api.data.rendering import Shape, respond
from appliance.api.routing import Permission, Route, services
from appliance.config import LimitSettings
from runtime.protocol import ChatMessage, ChatPrompt, ToolCall, ToolCallFunction

SHAPE = Shape(
    id_prefix="chatcmpl-",
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    opening=b'"delta":{"role":"assistant","content":""}',
    text_prefix=b'"delta":{"content":',
    text_suffix=b"}",
    no_text=b'"delta":{}',
    text_member=lambda text: {"message": {"role": "assistant", "content": text}},
)


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None


class MessageToolCallFunction(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = "{}"


class MessageToolCall(msgspec.Struct):
    function: MessageToolCallFunction
    id: str = ""


class Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: Any = None
    function_call: Any = None


class ChatBody(GenerationBody, kw_only=True):
    messages: list[Message]

    function_call: Any = None
    functions: Any = None
    parallel_tool_calls: Any = None
    prompt_truncate_len: Any = None
    safe_tokenization: Any = None
    tool_choice: Any = None
    tools: Any = None


async def create_chat_completion(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    body, headers = await decode_generation(request, ChatBody)
    limits = services(request).config.limits
    generation = to_generation(request, body, [_prompt(body.messages, limits)], limits)
    return await respond(request, body, generation, SHAPE, headers)


def _prompt(messages: list[Message], limits: LimitSettings) -> ChatPrompt:
    if not messages:
        raise invalid("messages", "must not be empty")
    if len(messages) > limits.messages_max:
        raise invalid("messages", f"must have at most {limits.messages_max} messages")
    return ChatPrompt(messages=[_message(message, f"messages[{i}]") for i, message in enumerate(messages)])


def _message(message: Message, param: str) -> ChatMessage:
    for name in ("reasoning_content", "function_call"):
        if getattr(message, name):
            raise unsupported(f"{param}.{name}")
    return ChatMessage(
        role="system" if message.role == "developer" else message.role,
        content=_text(message.content, f"{param}.content"),
        name=message.name,
        tool_calls=[_tool_call(call) for call in message.tool_calls or []],
        tool_call_id=message.tool_call_id,
    )


def _text(content: str | list[ContentPart] | None, param: str) -> str | None:
    if not isinstance(content, list):
        return content
    for i, part in enumerate(content):
        if part.type != "text":
            raise unsupported(f"{param}[{i}].{part.type}")
        if part.text is None:
            raise invalid(f"{param}[{i}].text", "this field is required")
    return "".join(part.text or "" for part in content)


def _tool_call(call: MessageToolCall) -> ToolCall:
    arguments = call.function.arguments
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCall(id=call.id, function=ToolCallFunction(name=call.function.name, arguments=arguments))


ROUTES = [
    Route("POST", "/inference/v1/chat/completions", create_chat_completion, Permission.INFER, ChatBody),
]
