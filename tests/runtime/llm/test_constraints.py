from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from runtime.engine import Postponed
from runtime.llm.constraints import LOW_EFFORT_TOKENS, AnswerConstraint, Constraints
from runtime.llm.dialect import Dialect
from runtime.llm.grammar.compiler import GrammarCompiler
from runtime.llm.request import TokenConstraint
from runtime.llm.thinking import AfterThinking
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import Submit
from runtime.submission import ChatPrompt, GrammarConstraint, JsonConstraint, Reasoning, TextPrompt, Tool, ToolChoice
from tests.fakes.text_model import write_text_model
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer

TOKENIZER = build_byte_level_tokenizer()
TOKENIZER.add_tokens(["<think>", "</think>"])  # as models that think have them
VOCAB_SIZE = TOKENIZER.get_vocab_size()
END_TOKEN_ID = 1
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarCompiler]:
    directory = write_text_model(tmp_path_factory.mktemp("model"), TOKENIZER, bos_token=None, chat_template=None)
    compiler = GrammarCompiler(directory, VOCAB_SIZE, [END_TOKEN_ID])
    yield compiler
    compiler.close()


def compiled(
    compiler: GrammarCompiler, prompt: ChatPrompt | TextPrompt, *, reasoning_parser: str, constraint: Any = None
) -> AnswerConstraint:
    dialect = Dialect("", "hermes", reasoning_parser, Vocabulary(TOKENIZER.to_str().encode()))
    constraints = Constraints(compiler, dialect, [END_TOKEN_ID])
    while True:
        try:
            return constraints.compile(Submit(request_id="r", prompt=prompt, constraint=constraint))
        except Postponed as postponed:
            postponed.ready.result(PATIENCE_S)


def chat(**fields: Any) -> ChatPrompt:
    return ChatPrompt(messages=[], **fields)


def forced(**reasoning: Any) -> ChatPrompt:
    choice = ToolChoice(mode="required", name="f", is_parallel=False)
    return chat(tools=[Tool(name="f")], tool_choice=choice, reasoning=Reasoning(**reasoning))


def write(constraint: TokenConstraint | None, text: str) -> bool:
    """Whether these characters and then the end are allowed, each by the mask of its step."""
    assert constraint is not None
    token_ids = [*(TOKENIZER.token_to_id(token) for token in TOKENIZER.encode(text).tokens), END_TOKEN_ID]
    for token_id in token_ids:
        mask = np.zeros(-(-VOCAB_SIZE // 32), dtype=np.int32)
        if constraint.fill_mask(mask) and not mask[token_id // 32] >> token_id % 32 & 1:
            return False
        constraint.accept(token_id)
    return True


CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def test_nothing_asked_is_nothing_held_to(compiler: GrammarCompiler) -> None:
    for prompt in (
        TextPrompt(text="x"),
        chat(),
        chat(tools=[Tool(name="f")]),
        chat(reasoning=Reasoning(effort="high")),
    ):
        assert compiled(compiler, prompt, reasoning_parser="qwen3").make(is_thinking=True) is None


def test_a_forced_call_is_all_there_is(compiler: GrammarCompiler) -> None:
    make = compiled(compiler, forced(), reasoning_parser="none").make
    assert write(make(is_thinking=False), CALL)
    assert not write(make(is_thinking=False), "Well, no.")


def test_thoughts_come_before_a_forced_call(compiler: GrammarCompiler) -> None:
    make = compiled(compiler, forced(), reasoning_parser="qwen3").make
    assert write(make(is_thinking=True), f"Hm.</think>{CALL}")
    assert not write(make(is_thinking=True), "Hm.</think>No.")
    assert write(make(is_thinking=False), f"<think>Hm.</think>{CALL}")
    assert write(make(is_thinking=False), CALL)


def test_without_thoughts_the_call_comes_at_once(compiler: GrammarCompiler) -> None:
    make = compiled(compiler, forced(effort="none"), reasoning_parser="qwen3").make
    assert not write(make(is_thinking=False), f"<think></think>{CALL}")
    assert write(make(is_thinking=False), CALL)


def test_a_budget_ends_thoughts(compiler: GrammarCompiler) -> None:
    make = compiled(compiler, chat(reasoning=Reasoning(budget_tokens=2)), reasoning_parser="qwen3").make
    assert write(make(is_thinking=True), "xy</think>So.")
    assert not write(make(is_thinking=True), "xyzz</think>So.")


def test_low_effort_is_a_budget_where_the_template_knows_no_efforts(compiler: GrammarCompiler) -> None:
    prompt = chat(reasoning=Reasoning(effort="low"))
    constraint = compiled(compiler, prompt, reasoning_parser="qwen3").make(is_thinking=True)
    assert isinstance(constraint, AfterThinking)
    assert write(constraint, "x" * LOW_EFFORT_TOKENS + "</think>")
    assert compiled(compiler, prompt, reasoning_parser="none").make(is_thinking=True) is None


def test_each_choice_has_its_own(compiler: GrammarCompiler) -> None:
    constraint = compiled(compiler, forced(), reasoning_parser="none")
    first, second = constraint.make(is_thinking=False), constraint.make(is_thinking=False)
    assert write(first, CALL)
    assert write(second, CALL)


def test_a_response_format_holds_behind_thoughts(compiler: GrammarCompiler) -> None:
    for constraint in (JsonConstraint(schema='{"type": "integer"}'), GrammarConstraint(gbnf='root ::= "4" "2"')):
        make = compiled(compiler, chat(), reasoning_parser="qwen3", constraint=constraint).make
        assert write(make(is_thinking=True), "Hm.</think>42")
        assert not write(make(is_thinking=True), "Hm.</think>No.")
        assert write(make(is_thinking=False), "42")
        completion = compiled(compiler, TextPrompt(text="x"), reasoning_parser="qwen3", constraint=constraint).make
        assert write(completion(is_thinking=False), "42")
        assert not write(completion(is_thinking=False), "<think>")
