"""Parsing for the tests: a text cut into pieces becomes what a client would see."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from models.text_reader import Text
from models.tool_parsers.parser import Arguments, CallBegins, CallEnds, Event, ToolParser, merge

NAMES = frozenset({"weather", "add", "no-args"})

ULM: tuple[str, Any] = ("weather", {"city": "Ulm"})
SUM: tuple[str, Any] = ("add", {"a": 1, "b": [2.5, None, True]})
NONE: tuple[str, Any] = ("no-args", {})


class Call(NamedTuple):
    name: str
    arguments: str
    is_complete: bool


class Answer(NamedTuple):
    text: str
    calls: list[Call]

    @property
    def values(self) -> list[tuple[str, Any]]:
        """Names and arguments of the complete calls."""
        return [(call.name, json.loads(call.arguments)) for call in self.calls if call.is_complete]


def events(kind: type[ToolParser], pieces: Sequence[str]) -> list[Event]:
    parser = kind(NAMES)
    found = [event for piece in pieces for event in parser.feed(piece)]
    return merge([*found, *parser.finish()])


def read(kind: type[ToolParser], *pieces: str) -> Answer:
    answer = Answer("", [])
    for event in events(kind, pieces):
        match event:
            case Text(text=text):
                answer = answer._replace(text=answer.text + text)
            case CallBegins(name=name):
                answer.calls.append(Call(name, "", False))
            case Arguments(text=text):
                call = answer.calls.pop()
                answer.calls.append(call._replace(arguments=call.arguments + text))
            case CallEnds():
                answer.calls.append(answer.calls.pop()._replace(is_complete=True))
    return answer
