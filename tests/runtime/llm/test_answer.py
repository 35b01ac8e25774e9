from hypothesis import given, settings
from hypothesis import strategies as st

from models.reasoning_parsers.parser import ReasoningParser, ThoughtMarkers
from models.tool_parsers.hermes import HermesParser
from models.tool_parsers.mistral import MistralParser
from models.tool_parsers.parser import ToolParser
from runtime.llm.answer import Answer, AnswerReading
from runtime.llm.dialect import Dialect
from runtime.llm.prompts import EncodedPrompt
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import ToolCallDelta
from runtime.submission import ChatMessage, ChatPrompt, TextPrompt, Tool, ToolChoice
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer

NAMES = frozenset({"f", "g"})
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
VOCABULARY = Vocabulary(build_byte_level_tokenizer().to_str().encode())


def answer(*, calls: ToolParser | None = None, is_parallel: bool = True) -> Answer:
    thoughts = ReasoningParser(ThoughtMarkers("<think>", "</think>"), is_thinking=False)
    return Answer("r/0", thoughts, calls or HermesParser(NAMES), is_parallel=is_parallel)


def read(*pieces: str) -> tuple[str, str, list[ToolCallDelta]]:
    reading = answer()
    for piece in pieces:
        reading.add(piece)
    reading.finish()
    text, reasoning, calls = reading.take()
    merged: dict[int, ToolCallDelta] = {}
    for call in calls:
        before = merged.get(call.index, ToolCallDelta(index=call.index, id=call.id, name=call.name))
        arguments = before.arguments + call.arguments
        merged[call.index] = ToolCallDelta(index=call.index, id=before.id, name=before.name, arguments=arguments)
    return text, reasoning, list(merged.values())


FRAGMENTS = ["<think>", "</think>", CALL, CALL[:30], "<tool_call>", "hm", "\n", "<", "🔥"]


@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join), cut=st.integers(0, 200))
def test_where_the_text_is_cut_does_not_matter(text: str, cut: int) -> None:
    assert read(text[:cut], text[cut:]) == read(*text) == read(text)


def test_thoughts_words_and_calls_are_told_apart() -> None:
    text, reasoning, calls = read("<think>Two ", "calls.</think>\nSo:\n" + CALL, CALL.replace('"f"', '"g"'))
    assert (text, reasoning) == ("So:", "Two calls.")
    assert [(call.index, call.name, call.arguments) for call in calls] == [(0, "f", '{"a": 1}'), (1, "g", '{"a": 1}')]
    assert len({call.id for call in calls}) == 2


def test_a_call_inside_a_thought_is_a_thought() -> None:
    assert read(f"<think>I could {CALL}.</think>No.") == ("No.", f"I could {CALL}.", [])


def test_ids_are_the_same_for_the_same_choice() -> None:
    assert read(CALL) == read(CALL)


def test_a_dialect_has_its_own_ids() -> None:
    reading = answer(calls=MistralParser(NAMES))
    reading.add('[TOOL_CALLS][{"name": "f"}]')
    call_id = reading.take()[2][0].id
    assert len(call_id) == 9
    assert MistralParser.call_id(call_id) == call_id


def test_of_two_calls_where_one_is_allowed_the_first_counts() -> None:
    reading = answer(is_parallel=False)
    reading.add(f"So: {CALL}{CALL} and more")
    assert reading.is_complete
    reading.finish()
    text, _, calls = reading.take()
    assert (text, {call.index for call in calls}) == ("So:", {0})


def dialect(tool_parser: str = "hermes") -> Dialect:
    return Dialect("", tool_parser, "qwen3", VOCABULARY)


def read_with(prompt: ChatPrompt | TextPrompt) -> tuple[str, str, bool]:
    """Text, thoughts, and whether there was a call."""
    reading = AnswerReading(dialect(), prompt, EncodedPrompt([1])).begin("r/0")
    reading.add(f"<think>x</think>{CALL}")
    reading.finish()
    text, reasoning, calls = reading.take()
    return text, reasoning, bool(calls)


def test_what_is_read_depends_on_what_was_asked() -> None:
    messages = [ChatMessage(role="user", content="x")]
    tools = [Tool(name="f")]
    assert read_with(ChatPrompt(messages=messages, tools=tools)) == ("", "x", True)
    assert read_with(ChatPrompt(messages=messages)) == (CALL, "x", False)
    none = ChatPrompt(messages=messages, tools=tools, tool_choice=ToolChoice(mode="none"))
    assert read_with(none) == (CALL, "x", False)
    assert read_with(TextPrompt(text="x")) == (f"<think>x</think>{CALL}", "", False)
