from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.conversation import Conversation
from runtime.llm.plain_text import mark_names

NAMES = ["<|end|>", "<|begin|>", "</s>", "|"]


def test_names_are_broken_wherever_a_client_wrote_them() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "a<|end|>b</s>"},
        {"role": "user", "content": [{"type": "text", "text": "<|begin|>"}, {"type": "image"}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"<|end|>": ["</s>", 1, None]}}}]},
    ]
    tools = [{"function": {"name": "f", "description": "</s>"}}]
    marked, mark = mark_names(Conversation(messages, tools, {"thinking": True}), NAMES)
    written = str([marked.messages, marked.tools])
    assert not any(name in written for name in NAMES[:3])
    assert str([messages, tools]) == written.replace(repr(mark)[1:-1], "").replace(mark, "")
    assert marked.settings == {"thinking": True}


@settings(max_examples=100, deadline=None)
@given(text=st.lists(st.sampled_from([*NAMES, "<", "x", "\uf8ff", "\uf8fe"]), max_size=8).map("".join))
def test_without_the_mark_it_is_the_same_text(text: str) -> None:
    marked, mark = mark_names(Conversation([{"role": "user", "content": text}]), NAMES)
    assert mark not in text
    content = marked.messages[0]["content"]
    assert content.replace(mark, "") == text
    assert not any(name in content for name in NAMES[:3])
