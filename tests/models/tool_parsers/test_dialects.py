"""How a dialect is recognised by a template."""

import pytest

from models.tool_parsers.dialects import TOOL_PARSERS, detect_tool_parser


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        ("… <tool_call>\\n{{ tool_call | tojson }}\\n</tool_call> …", "hermes"),
        ('{"name": function name, "parameters": dictionary of argument name and its value}', "llama3_json"),
        ("{{ '<|python_tag|>' }}", "llama3_json"),
        ("[func_name1(params_name1=params_value1), func_name2(params)] {{ '<|python_tag|>' }}", "pythonic"),
        ('{{ "[TOOL_CALLS] [" }}', "mistral"),
        ('{{ "[TOOL_CALLS]" + name + "[ARGS]" + arguments }}', "mistral_named"),
        ("'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '```json'", "deepseek_v3"),
        ("'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['function']['name']", "deepseek_v31"),
        ("{{ ' functools[' }}", "firefunction"),
        ("{{ message.content }}", "generic"),
    ],
)
def test_the_template_tells_the_dialect(template: str, dialect: str) -> None:
    assert detect_tool_parser(template) == dialect
    assert dialect in TOOL_PARSERS
