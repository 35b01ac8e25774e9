from typing import Any

import llguidance
import pytest

from runtime.engine import RequestRefused
from runtime.llm.call_grammar import write_call_grammar
from runtime.llm.dialect import Dialect
from runtime.llm.vocabulary import Vocabulary
from runtime.submission import ChatPrompt, GrammarConstraint, JsonConstraint, Tool, ToolChoice
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer

VOCABULARY = Vocabulary(build_byte_level_tokenizer().to_str().encode())
TOKENIZER = llguidance.LLTokenizer("byte")
NUMBER = Tool(name="number", parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
TOOLS = [NUMBER, Tool(name="none")]


def grammar(
    choice: ToolChoice, *, tools: list[Tool] = TOOLS, constraint: Any = None, parser: str = "hermes"
) -> str | None:
    prompt = ChatPrompt(messages=[], tools=tools, tool_choice=choice)
    return write_call_grammar(prompt, constraint, Dialect("", parser, "none", VOCABULARY))


def accepts(lark: str | None, text: str) -> bool:
    assert lark is not None
    matcher = llguidance.LLMatcher(TOKENIZER, llguidance.LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    return bool(matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting())


def call(name: str, arguments: str) -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


def test_a_required_call_is_of_some_offered_function() -> None:
    lark = grammar(ToolChoice(mode="required"))
    assert accepts(lark, call("number", '{"n": 1}'))
    assert accepts(lark, call("none", "{}") + call("number", '{"n": 1}'))
    assert not accepts(lark, call("none", '{"x": 1}'))
    assert not accepts(lark, call("number", "{}"))
    assert not accepts(lark, "hello")


def test_a_named_call_is_of_that_function_and_one() -> None:
    lark = grammar(ToolChoice(mode="required", name="none", is_parallel=False))
    assert accepts(lark, call("none", "{}"))
    assert not accepts(lark, call("none", "{}") * 2)
    assert not accepts(lark, call("number", '{"n": 1}'))


def test_calls_of_the_models_own_accord_are_constrained_where_a_schema_is_strict() -> None:
    assert grammar(ToolChoice()) is None
    strict = [Tool(name="number", parameters=NUMBER.parameters, is_strict=True), Tool(name="none")]
    lark = grammar(ToolChoice(), tools=strict)
    assert accepts(lark, "hello")
    assert accepts(lark, call("number", '{"n": 1}'))
    assert not accepts(lark, call("number", '{"n": "1"}'))
    assert accepts(lark, call("none", '{"anything": 1}'))


def test_nothing_is_constrained_where_nothing_may_be_called() -> None:
    assert grammar(ToolChoice(mode="none")) is None
    assert grammar(ToolChoice(), tools=[]) is None


def test_an_answer_keeps_to_its_format_or_is_a_call() -> None:
    lark = grammar(ToolChoice(), constraint=JsonConstraint(schema='{"type": "integer"}'))
    assert accepts(lark, "42")
    assert accepts(lark, call("none", "{}"))
    assert not accepts(lark, "hello")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"choice": ToolChoice(mode="required"), "constraint": JsonConstraint(schema="{}")}, "tool_choice"),
        ({"choice": ToolChoice(), "constraint": GrammarConstraint(gbnf='root ::= "x"')}, "response_format"),
        ({"choice": ToolChoice(), "constraint": JsonConstraint(schema="{}"), "parser": "generic"}, "response_format"),
    ],
)
def test_what_cannot_be_kept_together_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        grammar(**fields)
    assert refused.value.param == param


def test_parameters_that_are_no_schema_are_refused_where_they_are_enforced() -> None:
    tools = [Tool(name="f", parameters={"type": "string"})]
    with pytest.raises(RequestRefused, match="parameters of f") as refused:
        grammar(ToolChoice(mode="required"), tools=tools)
    assert refused.value.param == "tools"
    assert grammar(ToolChoice(), tools=tools) is None
