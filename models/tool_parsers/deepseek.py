"""Calls between markers of fullwidth bars: DeepSeek.

V3.1 and later write `name`, separator, arguments; V2.5, V3 and R1 write `function`, separator, `name`, and the
arguments in a code fence. Both are read.
"""

from collections.abc import Sequence

from models.text_reader import Malformed, Step
from models.tool_parsers.lark import literal, named_call_rules, repeated
from models.tool_parsers.parser import OfferedTool, Terminal, ToolParser

CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_BEGIN, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
SEPARATOR = "<｜tool▁sep｜>"

_NAME_LENGTH_MAX = 64


class DeepSeekParser(ToolParser):
    markers = (CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEPARATOR)
    openings = (CALLS_BEGIN,)

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        calls = repeated("call", literal("\n") + "?", is_parallel=is_parallel)
        call = f"{terminal(CALL_BEGIN)} named {terminal(CALL_END)}"
        rules = named_call_rules(tools, terminal(SEPARATOR))
        return f"rest: {calls} {terminal(CALLS_END)}\ncall: {call}\n" + rules

    def _calls(self, marker: str) -> Step[None]:
        while True:
            yield from self._reader.skip_space()
            if (yield from self._reader.take_if(CALLS_END)):
                return
            self._reader.hold()
            yield from self._reader.expect(CALL_BEGIN)
            yield from self._call()
            yield from self._reader.skip_space()
            yield from self._reader.take_if(CALL_END)
            self._reader.settle()

    def _call(self) -> Step[None]:
        first = yield from self._word()
        yield from self._reader.expect(SEPARATOR)
        if (yield from self._reader.peek()) == "{":
            yield from self._named_call(first)
            return
        name = yield from self._word()
        yield from self._reader.skip_space()
        if (yield from self._reader.take_if("```json")):
            yield from self._reader.skip_space()
        yield from self._named_call(name)
        yield from self._reader.skip_space()
        yield from self._reader.take_if("```")

    def _word(self) -> Step[str]:
        word = ""
        while (character := (yield from self._reader.peek())) and not character.isspace() and character not in "<{":
            word += yield from self._reader.take()
            if len(word) > _NAME_LENGTH_MAX:
                raise Malformed
        return word


class DeepSeekFencedParser(DeepSeekParser):
    """Forced calls in the older form."""

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        calls = repeated("call", literal("\n") + "?", is_parallel=is_parallel)
        head, tail = f"{literal('function')} {terminal(SEPARATOR)}", literal("\n```")
        call = f"{terminal(CALL_BEGIN)} {head} named {tail} {terminal(CALL_END)}"
        rules = named_call_rules(tools, literal("\n```json\n"))
        return f"rest: {calls} {terminal(CALLS_END)}\ncall: {call}\n" + rules
