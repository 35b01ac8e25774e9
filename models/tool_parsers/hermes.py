"""`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen and ember-chat."""

from collections.abc import Sequence

from models.text_reader import Step
from models.tool_parsers.lark import literal, object_call_rules, repeated
from models.tool_parsers.parser import OfferedTool, Terminal, ToolParser


class HermesParser(ToolParser):
    markers = ("<tool_call>", "</tool_call>")
    openings = ("<tool_call>",)

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        begin, end = map(terminal, cls.markers)
        newline = literal("\n") + "?"
        rest = repeated("call", f"{newline} {begin}", is_parallel=is_parallel)
        call = f"{newline} object {newline} {end}"
        return f"rest: {rest}\ncall: {call}\n" + object_call_rules(tools, "arguments")

    def _calls(self, marker: str) -> Step[None]:
        yield from self._reader.skip_space()
        yield from self._object_call()
        yield from self._reader.skip_space()
        yield from self._reader.take_if("</tool_call>")
