"""For models that were taught no dialect of their own: an object or a list of objects is the whole answer.

Said to the model by `models/described_tools.py`. A code fence around it, and Hermes's tags, are taken as well: many
models add them unasked.
"""

from collections.abc import Sequence

from models.text_reader import Malformed, Step
from models.tool_parsers.lark import literal, object_call_rules, repeated
from models.tool_parsers.parser import OfferedTool, Terminal, ToolParser


class GenericParser(ToolParser):
    openings = ("<tool_call>",)
    is_opening_needed = False
    bare_openings = "{[`<"

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        calls = repeated("object", literal(", "), is_parallel=is_parallel)
        rest = f"object | {literal('[')} {calls} {literal(']')}" if is_parallel else "object"
        return f"rest: {rest}\n" + object_call_rules(tools, "arguments")

    def _parse(self) -> Step[None]:
        yield from self._attempt(self._whole_answer())
        yield from super()._parse()

    def _whole_answer(self) -> Step[None]:
        self._reader.hold()
        yield from self._reader.skip_space()
        is_fenced = yield from self._reader.take_if("```")
        if is_fenced:
            yield from self._reader.take_if("json")
            yield from self._reader.skip_space()
        match (yield from self._reader.peek()):
            case "{":
                yield from self._object_call()
            case "[":
                yield from self._object_calls()
            case _:
                raise Malformed
        if is_fenced:
            yield from self._reader.skip_space()
            yield from self._reader.take_if("```")

    def _calls(self, marker: str) -> Step[None]:
        yield from self._reader.skip_space()
        yield from self._object_call()
        yield from self._reader.skip_space()
        yield from self._reader.take_if("</tool_call>")
