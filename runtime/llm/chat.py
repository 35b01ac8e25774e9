"""A ChatPrompt as chat templates know conversations: dicts, with what the client asked of tools and thoughts in them.

Also which messages may be left out when all of them are too many. Pure: renders and counts nothing.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from models.conversation import Conversation
from runtime.submission import ChatMessage, ChatPrompt, ImagePart, Reasoning, TextPart, Tool

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def conversation_of(prompt: ChatPrompt, messages: Sequence[ChatMessage], call_id: Callable[[str], str]) -> Conversation:
    """These messages of the prompt, for the template. Tools are shown unless none of them may be called."""
    tools = [] if prompt.tool_choice.mode == "none" else prompt.tools
    return Conversation(
        messages=[_template_message(message, call_id) for message in _forget_thoughts(messages, prompt.reasoning)],
        tools=[_template_tool(tool) for tool in tools],
        settings=_settings(prompt.reasoning),
    )


def droppable(messages: Sequence[ChatMessage]) -> list[range]:
    """Positions that may be left out together, oldest first: whole turns, then exchanges since the last user message.

    System messages, the last user message and what was said last stay; a result stays with its call.
    """
    spoken = [position for position, message in enumerate(messages) if message.role != "system"]
    users = [position for position in spoken if messages[position].role == "user"]
    last_user = users[-1] if users else -1
    starts = [position for position in spoken if position < last_user and _begins_turn(messages, position, spoken)]
    exchanges = [position for position in spoken if position > last_user and messages[position].role == "assistant"]
    turns = [range(start, end) for start, end in zip(starts, [*starts[1:], last_user], strict=False)]
    later = [range(start, end) for start, end in itertools.pairwise(exchanges)]
    return turns + later


def without(messages: Sequence[ChatMessage], dropped: Sequence[range]) -> list[ChatMessage]:
    return [
        message
        for position, message in enumerate(messages)
        if message.role == "system" or not any(position in positions for positions in dropped)
    ]


def _begins_turn(messages: Sequence[ChatMessage], position: int, spoken: list[int]) -> bool:
    return position == spoken[0] or messages[position].role == "user"


def _settings(reasoning: Reasoning) -> dict[str, bool | int | str]:
    """Under the names that templates know; one that does not know a name never sees it."""
    settings: dict[str, bool | int | str] = {}
    if reasoning.effort is not None or reasoning.budget_tokens is not None:
        is_thinking = reasoning.effort != "none"
        settings |= {"enable_thinking": is_thinking, "thinking": is_thinking}
        if reasoning.effort is not None and is_thinking:
            settings["reasoning_effort"] = reasoning.effort
        if reasoning.budget_tokens is not None:
            settings["thinking_budget"] = reasoning.budget_tokens
    if reasoning.history is not None:
        is_preserved = reasoning.history == "preserved"
        settings |= {"preserve_thinking": is_preserved, "clear_thinking": not is_preserved}
    return settings


def _forget_thoughts(messages: Sequence[ChatMessage], reasoning: Reasoning) -> list[ChatMessage]:
    if reasoning.history in (None, "preserved"):
        return list(messages)
    kept_from = len(messages)
    if reasoning.history == "interleaved":
        kept_from = max((i for i, message in enumerate(messages) if message.role == "user"), default=0)
    return [
        message if position >= kept_from else msgspec.structs.replace(message, reasoning_content=None)
        for position, message in enumerate(messages)
    ]


def _template_message(message: ChatMessage, call_id: Callable[[str], str]) -> dict[str, Any]:
    """`content` is always there, arguments of calls are objects."""
    fields: dict[str, Any] = {"role": message.role, "content": _template_content(message.content)}
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = call_id(message.tool_call_id)
    if message.reasoning_content is not None:
        fields["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call_id(call.id),
                "type": "function",
                "function": {"name": call.function.name, "arguments": _template_arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
    return fields


def _template_content(content: str | list[TextPart | ImagePart] | None) -> str | list[dict[str, str]] | None:
    if not isinstance(content, list):
        return content
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"} for part in content
    ]


def _template_arguments(text: str) -> object:
    """An earlier answer's arguments may be anything that a model wrote; what is no object stays text."""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return text


def _template_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = _NO_PARAMETERS if tool.parameters is None else tool.parameters
    return {"type": "function", "function": function}
