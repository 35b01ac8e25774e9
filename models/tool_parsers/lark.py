"""The rules that dialects' grammars have in common, in llguidance's form of Lark. Only writes text."""

import json
from collections.abc import Sequence
from typing import Protocol

NUM_PARALLEL_CALLS_MAX = 16
"""In one forced answer: a model that is made to call would otherwise not know when to stop."""


class _Tool(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def schema(self) -> str: ...


def literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def repeated(call: str, separator: str, *, is_parallel: bool) -> str:
    """One call, or (parallel) several."""
    return f"{call} ({separator} {call}){{0,{NUM_PARALLEL_CALLS_MAX - 1}}}" if is_parallel else call


def start_rules(opening: str, opening_terminal: str, *, bare: str) -> str:
    """`start` where text may come before or instead of calls, `rest` being all of the calls after the opening.

    `bare`: characters that calls begin with where there is no opening; text then begins with none of them.
    """
    if not opening:
        return f"start: PROSE | rest\nPROSE: /([^\\s{_escaped(bare)}](?s:.*))?/\n"
    text = _escaped(opening)
    if opening_terminal != literal(opening):  # a token, whose text could still be spelled in pieces
        return f"start: PROSE ({opening_terminal} rest)?\nPROSE: /(?s:.*)/ & ~/(?s:.*){text}(?s:.*)/\n"
    return f"start: PROSE | lead rest\nlead[lazy]: /(?s:.*){text}/\nPROSE: /(?s:.*)/ & ~/(?s:.*){text}(?s:.*)/\n"


def object_call_rules(tools: Sequence[_Tool], arguments_key: str) -> str:
    """`object`: name and arguments of one of the tools."""
    rules = _one_of("object", tools)
    for index, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.name)}, "{arguments_key}": '
        rules += f"tool_{index}: {literal(head)} arguments_{index} {literal('}')}\n"
    return rules + _arguments(tools)


def named_call_rules(tools: Sequence[_Tool], separator: str) -> str:
    """`named`: the name of one of the tools, the separator, its arguments."""
    rules = _one_of("named", tools)
    for index, tool in enumerate(tools):
        rules += f"tool_{index}: {literal(tool.name)} {separator} arguments_{index}\n"
    return rules + _arguments(tools)


def _one_of(name: str, tools: Sequence[_Tool]) -> str:
    return f"{name}: " + " | ".join(f"tool_{index}" for index in range(len(tools))) + "\n"


def _arguments(tools: Sequence[_Tool]) -> str:
    return "".join(f"arguments_{index}: %json {tool.schema}\n" for index, tool in enumerate(tools))


def _escaped(text: str) -> str:
    """As a regular expression's text; also inside brackets."""
    return "".join("\\" + character if character in "\\/[](){}.*+?^$|&~-" else character for character in text)
