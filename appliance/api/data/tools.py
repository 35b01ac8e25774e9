"""The functions that a chat request offers, and which of them the model may or must call.

`functions` and `function_call`, the older form, are turned into tools; the answer then has the older form too.
"""

from typing import Annotated, Any, Literal

import msgspec

from appliance.api.data.generation import GenerationBody, invalid
from appliance.config import LimitSettings
from models.json_schema.preparation import prepare_schema
from models.json_schema.reading import SchemaError
from models.tool_parsers.arguments_schema import arguments_schema
from runtime.submission import Tool, ToolChoice

ToolName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]


class FunctionDefinition(msgspec.Struct):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(msgspec.Struct):
    function: FunctionDefinition
    type: Literal["function"] = "function"


class FunctionName(msgspec.Struct):
    name: str = ""


class NamedChoice(msgspec.Struct):
    """Without a name: any function."""

    type: Literal["function"]
    function: FunctionName | None = None
    name: str = ""


Choice = Literal["auto", "none", "any", "required"] | NamedChoice
LegacyChoice = Literal["auto", "none"] | FunctionName


class ToolFields(GenerationBody, kw_only=True):
    """With the fields of a request that this module reads."""

    tools: list[ToolDefinition] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDefinition] | None = None
    function_call: LegacyChoice | None = None


def to_tools(body: ToolFields, limits: LimitSettings) -> list[Tool]:
    if body.tools and body.functions:
        raise invalid("functions", "is the older form of tools; give one of them")
    param = "functions" if body.functions else "tools"
    return check_tools([tool.function for tool in body.tools or []] or body.functions or [], param, limits)


def check_tools(functions: list[FunctionDefinition], param: str, limits: LimitSettings) -> list[Tool]:
    if len(functions) > limits.tools_max:
        raise invalid(param, f"must have at most {limits.tools_max} functions")
    names = [function.name for function in functions]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise invalid(f"{param}[{position}]", f"the function {name} is there already")
    return [
        Tool(
            name=function.name,
            description=function.description,
            parameters=function.parameters,
            is_strict=bool(function.strict),
        )
        for function in functions
    ]


def to_tool_choice(body: ToolFields, tools: list[Tool]) -> ToolChoice:
    if body.function_call is not None and body.tool_choice is not None:
        raise invalid("function_call", "is the older form of tool_choice; give one of them")
    param = "tool_choice" if body.function_call is None else "function_call"
    # The older form has no place for a second call.
    is_parallel = body.parallel_tool_calls is not False and not body.functions
    match body.tool_choice if body.function_call is None else body.function_call:
        case None | "auto":
            return ToolChoice(is_parallel=is_parallel)
        case "none":
            return ToolChoice(mode="none", is_parallel=is_parallel)
        case "any" | "required":
            name = ""
        case NamedChoice(function=function, name=name):
            name = function.name if function is not None and function.name else name
        case FunctionName(name=name):
            if not name:
                raise invalid("function_call.name", "must not be empty")
    return required_choice(tools, name, param, is_parallel=is_parallel)


def required_choice(tools: list[Tool], name: str, param: str, *, is_parallel: bool) -> ToolChoice:
    """Of the function of this name; without one, of any."""
    if not tools:
        raise invalid(param, "asks for a call, and no functions are offered")
    if name and name not in {tool.name for tool in tools}:
        raise invalid(param, f"the function {name[:64]!r} is not offered")
    return ToolChoice(mode="required", name=name or None, is_parallel=is_parallel and not name)


def check_enforced(body: ToolFields, tools: list[Tool], choice: ToolChoice) -> list[str]:
    """`check_schemas` of this body."""
    name = "functions[{}].parameters" if body.functions else "tools[{}].function.parameters"
    return check_schemas(tools, choice, [name.format(position) for position in range(len(tools))])


def check_schemas(tools: list[Tool], choice: ToolChoice, params: list[str]) -> list[str]:
    """Schemas that calls will be held to must be ones; returns JSON pointers to what of them cannot be enforced.

    A call is held to its schema where it is forced or the schema is strict. `params` name the tools' schemas.
    """
    unenforced = []
    for tool, param in zip(tools, params, strict=True):
        is_forced = choice.mode == "required" and choice.name in (None, tool.name)
        if choice.mode == "none" or not (is_forced or tool.is_strict):
            continue
        try:
            prepared = prepare_schema(arguments_schema(tool.parameters))
        except SchemaError as error:
            raise invalid(param, str(error)) from error
        if tool.is_strict and prepared.unenforced:
            raise invalid(param, f"is strict, and {prepared.unenforced[0]} cannot be enforced")
        place = "/" + param.replace("[", "/").replace("]", "").replace(".", "/")
        unenforced += [f"{place}{pointer}" for pointer in prepared.unenforced]
    return unenforced
