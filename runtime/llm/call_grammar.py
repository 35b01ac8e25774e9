"""The grammar of an answer that must call a tool, or whose calls must keep to strict schemas. Only writes Lark."""

from typing import Any, NoReturn

from models.json_schema.preparation import prepare_schema
from models.json_schema.reading import SchemaError
from models.tool_parsers.arguments_schema import arguments_schema
from models.tool_parsers.parser import OfferedTool
from runtime.engine import RequestRefused
from runtime.llm.dialect import Dialect
from runtime.message import FailureCode
from runtime.submission import ChatPrompt, GrammarConstraint, JsonConstraint, Tool

_ANY_ARGUMENTS: dict[str, Any] = {"type": "object"}


def write_call_grammar(
    prompt: ChatPrompt, constraint: JsonConstraint | GrammarConstraint | None, dialect: Dialect
) -> str | None:
    """In the model's own dialect; None where calls are not constrained, or none can come.

    A constraint of the answer is taken into it: the answer keeps to that or is calls. Raises RequestRefused.
    """
    choice = prompt.tool_choice
    if choice.mode == "none" or not prompt.tools:
        return None
    parser, is_parallel = dialect.tool_parser, choice.is_parallel
    if choice.mode == "required":
        if constraint is not None:
            _refuse("tool_choice", "a call is required, so that response_format cannot be kept to")
        tools = [_offered(tool) for tool in prompt.tools if choice.name in (None, tool.name)]
        return parser.forced_grammar(tools, dialect.terminal, is_parallel=is_parallel)
    tools = [_offered(tool) if tool.is_strict else _offered_loosely(tool) for tool in prompt.tools]
    match constraint:
        case JsonConstraint(schema=schema):
            if not parser.is_opening_needed:
                _refuse("response_format", "this model's calls look like JSON answers; set tool_choice to none")
            return parser.free_grammar(tools, dialect.terminal, is_parallel=is_parallel, answer=f"%json {schema}")
        case GrammarConstraint():
            _refuse("response_format", "a grammar leaves no room for calls; set tool_choice to none")
    if any(tool.is_strict for tool in prompt.tools):
        return parser.free_grammar(tools, dialect.terminal, is_parallel=is_parallel)
    return None


def _offered(tool: Tool) -> OfferedTool:
    try:
        prepared = prepare_schema(arguments_schema(tool.parameters))
    except SchemaError as error:
        _refuse("tools", f"the parameters of {tool.name} are no schema of an object: {error}")
    return OfferedTool(tool.name, prepared.schema_text)


def _offered_loosely(tool: Tool) -> OfferedTool:
    return OfferedTool(tool.name, prepare_schema(_ANY_ARGUMENTS).schema_text)


def _refuse(param: str, message: str) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, f"{param}: {message}", param)
