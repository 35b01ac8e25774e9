"""Tools for a model whose chat template knows nothing of them: said in words, in turns that every template has.

What a model answers to this is read by `tool_parsers/generic.py`.
"""

import json
from typing import Any

_INTRODUCTION = """\
You may call these functions:
{tools}
To call one, answer with nothing but a JSON object like {{"name": "…", "arguments": {{…}}}}; to call several, answer
with a list of such objects. You are then told what they returned. If you need no function, answer in plain words."""


def describe_tools(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation without tools, calls and results of them."""
    plain: list[dict[str, Any]] = []
    names = {call.get("id"): call["function"]["name"] for message in messages for call in message.get("tool_calls", [])}
    for message in messages:
        if message["role"] == "tool":
            name = names.get(message.get("tool_call_id"), message.get("name", "the function"))
            _say(plain, "user", f"{name} returned: {_text(message)}")
        elif message.get("tool_calls"):
            calls = [json.dumps(_call(call), ensure_ascii=False) for call in message["tool_calls"]]
            written = calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]"
            plain.append({"role": "assistant", "content": "\n".join(filter(None, [_text(message), written]))})
        elif message["role"] == "user" and _follows_result(plain) and isinstance(message.get("content"), str):
            _say(plain, "user", message["content"])
        else:
            plain.append(message)
    return _introduce(plain, tools) if tools else plain


def _introduce(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Into a turn that is there already: not every template has a place for the system's words."""
    listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    introduction = _INTRODUCTION.format(tools=listed)
    for role in ("system", "user"):
        for index, message in enumerate(messages):
            if message["role"] != role:
                continue
            content = message.get("content") or ""
            said = [content, introduction] if role == "system" else [introduction, content]
            if isinstance(content, list):
                said = [{"type": "text", "text": introduction + "\n\n"}, *content]
            told = said if isinstance(content, list) else "\n\n".join(filter(None, said))
            return [*messages[:index], {**message, "content": told}, *messages[index + 1 :]]
    return [{"role": "user", "content": introduction}, *messages]


def _say(messages: list[dict[str, Any]], role: str, text: str) -> None:
    """In a turn of its own, or in the last one if that is the same speaker's: many templates want them in turns."""
    if _follows_result(messages):
        messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n{text}"}
    else:
        messages.append({"role": role, "content": text})


def _follows_result(messages: list[dict[str, Any]]) -> bool:
    return len(messages) > 1 and messages[-1]["role"] == "user" and isinstance(messages[-1].get("content"), str)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    return {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
