"""Which dialect a model calls tools in: by the words of its chat template, unless its folder names one.

Templates are only searched for fixed strings here, never run.
"""

from models.tool_parsers.deepseek import CALL_BEGIN, DeepSeekFencedParser, DeepSeekParser
from models.tool_parsers.firefunction import FireFunctionParser
from models.tool_parsers.generic import GenericParser
from models.tool_parsers.hermes import HermesParser
from models.tool_parsers.llama3_json import Llama3JsonParser
from models.tool_parsers.mistral import MistralNamedParser, MistralParser
from models.tool_parsers.parser import ToolParser
from models.tool_parsers.pythonic import PythonicParser

TOOL_PARSERS: dict[str, type[ToolParser]] = {
    "hermes": HermesParser,
    "llama3_json": Llama3JsonParser,
    "pythonic": PythonicParser,
    "mistral": MistralParser,
    "mistral_named": MistralNamedParser,
    "deepseek_v3": DeepSeekFencedParser,
    "deepseek_v31": DeepSeekParser,
    "firefunction": FireFunctionParser,
    "generic": GenericParser,
}
"""By the name that `fireworks.json` may say."""

_SIGNS: list[tuple[str, str]] = [
    ("[TOOL_CALLS]", "mistral"),
    (CALL_BEGIN, "deepseek_v31"),
    ("functools", "firefunction"),
    ("<functioncall>", "firefunction"),
    ("<tool_call>", "hermes"),
    ("func_name1(", "pythonic"),
    ("<|python_start|>", "pythonic"),
    ("<|python_tag|>", "llama3_json"),
    ('"parameters": dictionary of argument', "llama3_json"),
]
"""The first string that a template holds decides."""


def detect_tool_parser(template: str) -> str:
    """A name out of TOOL_PARSERS."""
    name = next((name for sign, name in _SIGNS if sign in template), "generic")
    if name == "mistral" and "[ARGS]" in template:
        return "mistral_named"
    if name == "deepseek_v31" and "```json" in template:
        return "deepseek_v3"
    return name
