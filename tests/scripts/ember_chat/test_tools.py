import json
import random
from typing import Any

import pytest

from scripts.ember_chat.tools import TOOLS, draw_task, draw_tools


@pytest.mark.parametrize("seed", range(50))
def test_a_call_names_an_offered_function_and_its_parameters(seed: int) -> None:
    rng = random.Random(seed)
    tool = rng.choice(draw_tools(rng))
    task = draw_task(rng, tool)
    schema: Any = tool.schema(rng)
    function = schema["function"]
    assert task.name == function["name"]
    assert set(task.arguments) == set(function["parameters"]["properties"])


@pytest.mark.parametrize("seed", range(50))
def test_a_call_says_only_what_the_user_said(seed: int) -> None:
    rng = random.Random(seed)
    task = draw_task(rng, rng.choice(draw_tools(rng)), is_held_out=seed % 2 == 0)
    assert all(str(value) in task.request for value in task.arguments.values())


def test_a_task_is_request_call_result_answer() -> None:
    rng = random.Random(3)
    task = draw_task(rng, draw_tools(rng)[0])
    messages: list[Any] = task.messages()
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(messages[1]["tool_calls"][0]["function"]["arguments"]) == task.arguments
    json.loads(task.result)


def test_held_out_requests_are_never_drawn_for_training() -> None:
    for tool in TOOLS:
        held_out_start = tool.requests[-1].split("{")[0]
        trained = {draw_task(random.Random(seed), tool).request for seed in range(200)}
        held_out = {draw_task(random.Random(seed), tool, is_held_out=True).request for seed in range(50)}
        assert all(request.startswith(held_out_start) for request in held_out)
        assert not trained & held_out
