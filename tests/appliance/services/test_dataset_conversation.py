from typing import Any

import msgspec
import pytest

from appliance.services.dataset_conversation import Message, problem_of, shown

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "2+2?"}
ASSISTANT = {"role": "assistant", "content": "4"}
CALLING = {
    "role": "assistant",
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
}
TOOL = {"role": "tool", "tool_call_id": "1", "content": "4"}


def check(*messages: dict[str, Any], must_teach: bool = True) -> str | None:
    return problem_of(msgspec.convert(messages, list[Message]), must_teach=must_teach)


@pytest.mark.parametrize(
    "messages",
    [
        [USER, ASSISTANT],
        [SYSTEM, USER, ASSISTANT],
        [{**SYSTEM, "role": "developer"}, USER, ASSISTANT],
        [USER, ASSISTANT, USER, ASSISTANT],
        [USER, ASSISTANT, USER],
        [USER, CALLING],
        [USER, CALLING, TOOL, TOOL, ASSISTANT],
        [USER, CALLING, TOOL, USER, ASSISTANT],
        [USER, {"role": "assistant", "reasoning_content": "hm"}],
        [USER, {**ASSISTANT, "weight": 0}, USER, {**ASSISTANT, "weight": 1}],
        [{"role": "user", "content": [{"type": "text", "text": "What is it?"}]}, ASSISTANT],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, ASSISTANT],
    ],
)
def test_conversations_as_the_documents_have_them_are_taken(messages: list[dict[str, Any]]) -> None:
    assert check(*messages) is None


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "messages: must not be empty"),
        (
            [{"role": "human", "content": "x"}],
            "messages[0].role: 'human' is none of system, developer, user, assistant, tool",
        ),
        ([SYSTEM, SYSTEM, USER], "messages[1].role: a system message can only be the first"),
        ([USER, SYSTEM], "messages[1].role: a system message can only be the first"),
        ([ASSISTANT], "messages[0].role: an assistant's message stands after a user's or a tool's, not first"),
        ([SYSTEM, ASSISTANT], "messages[1].role: an assistant's message stands after a user's or a tool's, not after"),
        ([USER, USER], "messages[1].role: two user messages in a row; user and assistant take turns"),
        ([USER, ASSISTANT, ASSISTANT], "messages[2].role: an assistant's message stands after"),
        ([USER, TOOL], "messages[1].role: a tool's message stands after an assistant's, not after user"),
        ([{"role": "user"}], "messages[0].content: this field is required"),
        ([USER, {"role": "assistant"}], "messages[1].content: this field is required"),
        ([USER, {"role": "assistant", "tool_calls": []}], "messages[1].content: this field is required"),
        ([{**CALLING, "role": "user", "content": "x"}], "messages[0].tool_calls: only an assistant's message has them"),
        ([USER, {**ASSISTANT, "weight": -1}], "messages[1].weight: must not be negative"),
        ([SYSTEM, USER], "messages: at least one must have the role assistant"),
        ([USER, {**ASSISTANT, "weight": 0}], "messages: at least one must have the role assistant"),
    ],
)
def test_what_cannot_be_learnt_is_refused_with_its_place(messages: list[dict[str, Any]], problem: str) -> None:
    found = check(*messages)
    assert found is not None
    assert found.startswith(problem)


def test_what_others_will_answer_needs_no_answer() -> None:
    assert check(SYSTEM, USER, must_teach=False) is None
    assert check(USER, USER, must_teach=False) is not None


def test_an_error_repeats_no_more_of_a_file_than_a_short_word() -> None:
    assert shown("bot-2") == "'bot-2'"
    assert {shown(text) for text in ("a secret sentence", "x" * 33, "fw_key:value", "ключ", "")} == {"this"}
