"""`[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, and newer `[TOOL_CALLS]name[ARGS]{…}` for each call: Mistral."""

import string
from collections.abc import Sequence
from hashlib import blake2b

from models.text_reader import Step
from models.tool_parsers.lark import literal, named_call_rules, object_call_rules, repeated
from models.tool_parsers.parser import OfferedTool, Terminal, ToolParser

_ID_LENGTH = 9
_NAME_CHARACTERS = string.ascii_letters + string.digits + "_-"


class MistralParser(ToolParser):
    """The older form, which released templates show; both are read."""

    markers = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
    openings = ("[TOOL_CALLS]",)

    @staticmethod
    def call_id(call_id: str) -> str:
        """Nine letters and digits; templates refuse others, whoever made them."""
        if len(call_id) == _ID_LENGTH and call_id.isascii() and call_id.isalnum():
            return call_id
        return blake2b(call_id.encode("utf-8", "replace")).hexdigest()[:_ID_LENGTH]

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        calls = repeated("object", literal(", "), is_parallel=is_parallel)
        return f"rest: {literal('[')} {calls} {literal(']')}\n" + object_call_rules(tools, "arguments")

    def _calls(self, marker: str) -> Step[None]:
        yield from self._reader.skip_space()
        if (yield from self._reader.peek()) == "[":
            yield from self._object_calls()
            return
        name = yield from self._reader.take_while(_NAME_CHARACTERS)
        if (yield from self._reader.take_if("[CALL_ID]")):
            yield from self._reader.take_while(_NAME_CHARACTERS)
        yield from self._reader.take_if("[ARGS]")
        yield from self._reader.skip_space()
        yield from self._named_call(name)


class MistralNamedParser(MistralParser):
    """Forced calls in the newer form."""

    @classmethod
    def rest_rules(cls, tools: Sequence[OfferedTool], terminal: Terminal, *, is_parallel: bool) -> str:
        rest = repeated("named", terminal("[TOOL_CALLS]"), is_parallel=is_parallel)
        return f"rest: {rest}\n" + named_call_rules(tools, terminal("[ARGS]"))
