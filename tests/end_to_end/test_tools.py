"""Tools through the `openai` package, a real daemon and the built-in model: what agents do all day."""

import json
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessage

from tests.end_to_end.conftest import EMBER

QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Ulm?"}]
CITIES = ["Ulm", "Bern", "Graz"]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": CITIES},
                "days": {"type": "integer", "minimum": 0, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
RESTART: Any = {"type": "function", "function": {"name": "restart"}}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}


STATUS: Any = {
    "type": "function",
    "function": {
        "name": "get_deployment_status",
        "description": "Get the state of a deployment.",
        "parameters": {
            "type": "object",
            "properties": {"deployment": {"type": "string"}},
            "required": ["deployment"],
        },
    },
}
STATUS_ASKED: list[Any] = [{"role": "user", "content": "What is the state of deployment blue-fox?"}]


def ask(client: OpenAI, **fields: Any) -> ChatCompletionMessage:
    tools = [WEATHER, RESTART]
    answer = client.chat.completions.create(model=EMBER, messages=QUESTION, tools=tools, max_tokens=200, **fields)
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    message: ChatCompletionMessage = choice.message
    return message


def weather_asked(name: str, arguments: str) -> dict[str, Any]:
    """The arguments, checked against the schema."""
    assert name == "get_weather"
    asked: dict[str, Any] = json.loads(arguments)
    assert asked.keys() == {"city", "days"}
    assert asked["city"] in CITIES
    assert asked["days"] in range(10)
    return asked


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_named_choice_always_gives_a_valid_call(openai_client: OpenAI, temperature: float) -> None:
    for seed in range(3):
        message = ask(openai_client, tool_choice=NAMED, temperature=temperature, seed=seed)
        assert message.content is None
        [call] = message.tool_calls or []
        assert call.type == "function"
        assert call.id
        weather_asked(call.function.name, call.function.arguments)


def test_a_required_choice_gives_calls_of_offered_functions(openai_client: OpenAI) -> None:
    message = ask(openai_client, tool_choice="required", temperature=1.0, seed=1, parallel_tool_calls=False)
    [call] = message.tool_calls or []
    assert call.type == "function"
    assert call.function.name in ("get_weather", "restart")
    json.loads(call.function.arguments)


def test_the_pieces_of_a_streamed_call_make_a_valid_one(openai_client: OpenAI) -> None:
    stream = openai_client.chat.completions.create(
        model=EMBER, messages=QUESTION, tools=[WEATHER], tool_choice=NAMED, temperature=0, max_tokens=200, stream=True
    )
    chunks = [chunk.choices[0] for chunk in stream if chunk.choices]
    pieces = [piece for chunk in chunks for piece in chunk.delta.tool_calls or []]
    assert {piece.index for piece in pieces} == {0}
    functions = [piece.function for piece in pieces if piece.function is not None]
    assert pieces[0].id
    assert [function.name for function in functions if function.name] == ["get_weather"]
    weather_asked("get_weather", "".join(function.arguments or "" for function in functions))
    assert chunks[-1].finish_reason == "tool_calls"


def test_a_result_goes_back_and_an_answer_comes(openai_client: OpenAI) -> None:
    message = ask(openai_client, tool_choice=NAMED, temperature=0)
    [call] = message.tool_calls or []
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear", "degrees": 21}'}
    messages: Any = [*QUESTION, message.model_dump(exclude_none=True), result]
    answer = openai_client.chat.completions.create(
        model=EMBER, messages=messages, tools=[WEATHER], tool_choice="none", temperature=0
    )
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls


def test_functions_in_the_older_form_are_answered_in_it(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=EMBER,
        messages=QUESTION,
        functions=[WEATHER["function"]],
        function_call={"name": "get_weather"},
        temperature=0,
        max_tokens=200,
    )
    [choice] = answer.choices
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    weather_asked(choice.message.function_call.name, choice.message.function_call.arguments)


def test_the_model_calls_of_its_own_accord_and_answers_with_the_result(openai_client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": EMBER, "tools": [STATUS], "temperature": 0}
    [choice] = openai_client.chat.completions.create(messages=STATUS_ASKED, **fields).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_deployment_status"
    assert json.loads(call.function.arguments) == {"deployment": "blue-fox"}

    streamed = ""
    stream: Any = openai_client.chat.completions.create(messages=STATUS_ASKED, stream=True, **fields)
    for chunk in stream:
        for piece in chunk.choices[0].delta.tool_calls or []:
            assert piece.function is not None
            streamed += piece.function.arguments or ""
    assert streamed == call.function.arguments

    result = {"role": "tool", "tool_call_id": call.id, "content": '{"state": "READY", "replicas": 3}'}
    messages: list[Any] = [*STATUS_ASKED, choice.message.model_dump(exclude_none=True), result]
    answer = openai_client.chat.completions.create(messages=messages, **fields)
    assert answer.choices[0].message.content == "blue-fox is READY with 3 replicas."


def test_without_tools_nothing_is_called(openai_client: OpenAI) -> None:
    choices: list[dict[str, Any]] = [{}, {"tools": [STATUS], "tool_choice": "none"}]
    for fields in choices:
        answer = openai_client.chat.completions.create(model=EMBER, messages=STATUS_ASKED, temperature=0, **fields)
        assert not answer.choices[0].message.tool_calls
