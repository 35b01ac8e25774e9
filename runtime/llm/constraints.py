"""What one call's answers are held to: a response format, tools that must be called, a cap on thoughts, all at once.

Compiling a grammar may take a while and is asked for before anything else is done for a call; each choice then gets a
constraint of its own.
"""

from collections.abc import Collection

from runtime.llm.call_grammar import write_call_grammar
from runtime.llm.dialect import Dialect
from runtime.llm.grammar.answer_grammar import write_answer_grammar
from runtime.llm.grammar.compiler import GrammarCompiler, MakeConstraint
from runtime.llm.request import TokenConstraint
from runtime.llm.thinking import AfterThinking
from runtime.protocol import Submit
from runtime.submission import ChatPrompt, Reasoning

LOW_EFFORT_TOKENS = 3000
"""The cap that low effort means to a model whose template knows no efforts."""


class AnswerConstraint:
    """`make` one for each choice."""

    def __init__(
        self, make_answer: MakeConstraint | None, dialect: Dialect, reasoning: Reasoning | None, ends: Collection[int]
    ) -> None:
        self._make_answer = make_answer
        self._dialect = dialect
        self._reasoning = reasoning
        self._ends = ends

    def make(self, *, is_thinking: bool) -> TokenConstraint | None:
        """`is_thinking`: the prompt ends inside a thought."""
        answer = None if self._make_answer is None else self._make_answer()
        if self._reasoning is None or self._dialect.thought_token_ids is None:
            return answer
        max_thoughts = _max_thoughts(self._reasoning, self._dialect)
        if answer is None and max_thoughts is None:
            return None
        if self._reasoning.effort == "none" and not is_thinking:
            return answer
        begin, end = self._dialect.thought_token_ids
        return AfterThinking(
            end,
            answer,
            begin_token_ids=() if is_thinking else begin,
            max_thoughts=max_thoughts,
            stop_token_ids=() if answer is None else self._ends,
        )


class Constraints:
    def __init__(self, compiler: GrammarCompiler, dialect: Dialect, end_token_ids: Collection[int]) -> None:
        self._compiler = compiler
        self._dialect = dialect
        self._end_token_ids = end_token_ids

    def compile(self, submit: Submit) -> AnswerConstraint:
        """Raises RequestRefused, or Postponed while a grammar is being compiled."""
        lark, param, reasoning = None, "tools", None
        if isinstance(submit.prompt, ChatPrompt):
            lark = write_call_grammar(submit.prompt, submit.constraint, self._dialect)
            reasoning = submit.prompt.reasoning
        if lark is None and submit.constraint is not None:
            lark, param = write_answer_grammar(submit.constraint), "response_format"
        make_answer = None if lark is None else self._compiler.compile_lark(lark, param)
        return AnswerConstraint(make_answer, self._dialect, reasoning, self._end_token_ids)


def _max_thoughts(reasoning: Reasoning, dialect: Dialect) -> int | None:
    if reasoning.budget_tokens is None and reasoning.effort == "low" and not dialect.knows_effort:
        return LOW_EFFORT_TOKENS
    return reasoning.budget_tokens
