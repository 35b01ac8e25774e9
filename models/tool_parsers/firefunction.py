"""`functools[{"name": …, "arguments": {…}}, …]`, and older `<functioncall>{…}`: FireFunction."""

from collections.abc import Sequence

from models.text_reader import Step
from models.tool_parsers.lark import literal, object_call_rules, repeated
from models.tool_parsers.parser import OfferedTool, Terminal, ToolParser


class FireFunctionParser(ToolParser):
    markers = ("<functioncall>",)
    openings = ("functools[", "<functioncall>")

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        calls = repeated("object", literal(", "), is_parallel=is_parallel)
        return f"rest: {calls} {literal(']')}\n" + object_call_rules(tools, "arguments")

    def _calls(self, marker: str) -> Step[None]:
        if marker == "functools[":
            yield from self._listed_calls()
            return
        yield from self._reader.skip_space()
        yield from self._object_call()
        yield from self._reader.skip_space()
        yield from self._reader.take_if("</functioncall>")
