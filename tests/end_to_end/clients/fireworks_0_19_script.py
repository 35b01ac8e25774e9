"""Runs under fireworks-ai 0.19.20 alone: calls its old client and prints what came back, as JSON.

Arguments: base URL, key, model. Imports nothing of ours.
"""

import asyncio
import json
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

# By name: type checkers see the newer release, which has other things under this one.
old_client: Any = import_module("fireworks.client")
old_error: Any = import_module("fireworks.client.error")

QUESTION = [{"role": "user", "content": "What is Hearth?"}]
CALL_QUESTION = [{"role": "user", "content": "What is the state of deployment blue-fox?"}]
JSON_QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in JSON."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_deployment_status",
        "description": "Get the state of a deployment.",
        "parameters": {"type": "object", "properties": {"deployment": {"type": "string"}}, "required": ["deployment"]},
    },
}
CAPITAL = {
    "type": "object",
    "properties": {"country": {"type": "string"}, "capital": {"type": "string"}},
    "required": ["country", "capital"],
}


def chat(client: Any, model: str) -> dict[str, Any]:
    asked = {"model": model, "messages": QUESTION, "temperature": 0}
    answer = client.chat.completions.create(**asked)
    chunks = client.chat.completions.create(**asked, stream=True)
    called = client.chat.completions.create(model=model, messages=CALL_QUESTION, temperature=0, tools=[TOOL])
    function = called.choices[0].message.tool_calls[0].function
    form = {"type": "json_object", "schema": CAPITAL}
    structured = client.chat.completions.create(
        model=model, messages=JSON_QUESTION, temperature=0, response_format=form
    )
    return {
        "chat": answer.choices[0].message.content,
        "stream": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "call": {"name": function.name, "arguments": json.loads(function.arguments)},
        "json": json.loads(structured.choices[0].message.content),
    }


def complete(client: Any, model: str) -> dict[str, Any]:
    asked = {"model": model, "prompt": "Hearth is", "temperature": 0, "max_tokens": 4}
    answer = client.completions.create(**asked, logprobs=1)
    chunks = client.completions.create(**asked, stream=True)
    return {
        "completion": {"text": answer.choices[0].text, "completion_tokens": answer.usage.completion_tokens},
        "logprobs": {"tokens": answer.choices[0].logprobs.tokens},
        "completion_stream": "".join(chunk.choices[0].text for chunk in chunks if chunk.choices),
    }


async def stream_async(client: Any, model: str) -> str:
    texts = []
    async for chunk in client.chat.completions.acreate(model=model, messages=QUESTION, temperature=0, stream=True):
        if chunk.choices:
            texts.append(chunk.choices[0].delta.content or "")
    return "".join(texts)


def errors(base_url: str, client: Any, model: str) -> list[str]:
    stranger = old_client.Fireworks(api_key="fw_wrong", base_url=base_url)
    names = []
    for who, fields in (
        (stranger, {"model": model}),
        (client, {"model": "accounts/fireworks/models/nobody"}),
        (client, {"model": model, "top_k": -1}),
    ):
        try:
            who.chat.completions.create(messages=QUESTION, **fields)
        except old_error.FireworksError as refusal:
            names.append(type(refusal).__name__)
    return names


def main() -> None:
    base_url, key, model = sys.argv[1:]
    client = old_client.Fireworks(api_key=key, base_url=base_url)
    told = {"version": version("fireworks-ai"), **chat(client, model), **complete(client, model)}
    told["async_stream"] = asyncio.run(stream_async(client, model))
    old_client.api_key, old_client.base_url = key, base_url  # of the process: `Model` takes no other
    told["models"] = [listed.id for listed in old_client.Model.list().data]
    told["errors"] = errors(base_url, client, model)
    print(json.dumps(told))


main()
