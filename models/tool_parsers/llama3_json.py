"""`{"name": …, "parameters": {…}}` as the whole answer, or after `<|python_tag|>`; `;` between several: Llama 3."""

from collections.abc import Sequence

from models.text_reader import Step
from models.tool_parsers.lark import literal, object_call_rules, repeated
from models.tool_parsers.parser import OfferedTool, Terminal, ToolParser


class Llama3JsonParser(ToolParser):
    markers = ("<|python_tag|>",)
    openings = ("<|python_tag|>",)
    is_opening_needed = False
    bare_openings = "{"

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        rest = repeated("object", literal("; "), is_parallel=is_parallel)
        return f"rest: {rest}\n" + object_call_rules(tools, "parameters")

    def _parse(self) -> Step[None]:
        yield from self._attempt(self._calls(""))
        yield from super()._parse()

    def _calls(self, marker: str) -> Step[None]:
        self._reader.hold()
        yield from self._reader.skip_space()
        if not marker:
            yield from self._reader.take_if("<|python_tag|>")
            yield from self._reader.skip_space()
        yield from self._object_call()
        while True:
            yield from self._reader.skip_space()
            yield from self._reader.take_if(";")
            yield from self._reader.skip_space()
            if (yield from self._reader.peek()) != "{":
                return
            yield from self._object_call()
