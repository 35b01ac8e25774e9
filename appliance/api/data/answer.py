"""The assistant's turn as chat clients read it, whole or in pieces: text, thoughts, calls.

`LEGACY_SHAPE` is for clients that offered `functions`: their one call is the message's `function_call`.
"""

from typing import Any

import msgspec

from appliance.api.data.choices import Choice, Shape
from runtime.protocol import Delta, ToolCallDelta

_encode = msgspec.json.Encoder().encode


def merge_calls(pieces: list[ToolCallDelta]) -> list[ToolCallDelta]:
    """Each call whole, in the order of their indexes."""
    calls: dict[int, ToolCallDelta] = {}
    for piece in pieces:
        before = calls.get(piece.index, ToolCallDelta(index=piece.index))
        calls[piece.index] = ToolCallDelta(
            index=piece.index,
            id=before.id or piece.id,
            name=before.name or piece.name,
            arguments=before.arguments + piece.arguments,
        )
    return [calls[index] for index in sorted(calls)]


def _whole(choice: Choice) -> dict[str, Any]:
    calls = [
        {"index": call.index, "id": call.id, "type": "function", "function": _function(call)}
        for call in merge_calls(choice.tool_calls)
    ]
    return _message(choice, {"tool_calls": calls} if calls else {})


def _whole_legacy(choice: Choice) -> dict[str, Any]:
    calls = merge_calls(choice.tool_calls)
    return _message(choice, {"function_call": _function(calls[0])} if calls else {})


def _message(choice: Choice, calls: dict[str, Any]) -> dict[str, Any]:
    text = "".join(choice.texts)
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if reasoning := "".join(choice.reasoning):
        message["reasoning_content"] = reasoning
    return {"message": message | calls}


def _function(call: ToolCallDelta) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def _rich(delta: Delta) -> bytes:
    pieces = []
    for piece in merge_calls(delta.tool_calls):
        shown: dict[str, Any] = {"index": piece.index, "function": {"arguments": piece.arguments}}
        if piece.name:
            shown = {"index": piece.index, "id": piece.id, "type": "function", "function": _function(piece)}
        pieces.append(shown)
    return _delta(delta, {"tool_calls": pieces} if pieces else {})


def _rich_legacy(delta: Delta) -> bytes:
    calls: dict[str, Any] = {}
    for piece in merge_calls([piece for piece in delta.tool_calls if piece.index == 0]):
        calls["function_call"] = _function(piece) if piece.name else {"arguments": piece.arguments}
    return _delta(delta, calls)


def _delta(delta: Delta, calls: dict[str, Any]) -> bytes:
    members: dict[str, Any] = {}
    if delta.reasoning:
        members["reasoning_content"] = delta.reasoning
    if delta.text:
        members["content"] = delta.text
    return b'"delta":' + _encode(members | calls)


SHAPE = Shape(
    id_prefix="chatcmpl-",
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    opening=b'"delta":{"role":"assistant","content":""}',
    text_prefix=b'"delta":{"content":',
    text_suffix=b"}",
    no_text=b'"delta":{}',
    whole_member=_whole,
    rich_member=_rich,
    is_prompt_beside_choices=True,
)

LEGACY_SHAPE = SHAPE._replace(whole_member=_whole_legacy, rich_member=_rich_legacy, calls_reason="function_call")
