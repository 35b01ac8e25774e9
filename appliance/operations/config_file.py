"""Every setting as a person reads it: what it means, what it is now, where that comes from, and a file to begin with.

All of it is read from where each setting is declared (`config.py`), with its meaning below it: nothing stands twice.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.config import SECTIONS, Config

LINE_WIDTH = 100
HEADING = """\
Every setting of the Hearth daemon, with its default. Take the # from before those that you change.

A variable HEARTH_ and the name in capitals (HEARTH_PORT) stands above this file, an option of `hearth serve` above
both. `hearth config show` tells what holds; `systemctl reload hearth` takes over what can change while the daemon runs,
and the log names what needs a restart.\
"""
FROM_DEFAULT = "default"


class Setting(NamedTuple):
    table: str
    """Empty for those in none."""
    name: str
    value: object
    origin: str


def example() -> str:
    """A TOML file that changes nothing."""
    parts = [_comment(HEADING), *_settings(Config)]
    for table, struct in SECTIONS.items():
        parts += [f"{_comment(_meaning_of_table(struct))}\n[{table}]", *_settings(struct)]
    return "\n\n".join(parts) + "\n"


def effective(current: Config, origins: dict[str, str]) -> Iterator[Setting]:
    """All settings in the order of the file; `origins` names those that are no default."""
    for name in current.__struct_fields__:
        if name not in SECTIONS:
            yield Setting("", name, getattr(current, name), origins.get(name, FROM_DEFAULT))
    for table in SECTIONS:
        section: msgspec.Struct = getattr(current, table)
        for name in section.__struct_fields__:
            yield Setting(table, name, getattr(section, name), origins.get(name, FROM_DEFAULT))


def meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """By setting: the text below its declaration."""
    body = _declaration(struct).body
    return {
        declared.target.id: inspect.cleandoc(text.value.value)
        for declared, text in pairwise(body)
        if isinstance(declared, ast.AnnAssign)
        and isinstance(declared.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def written(value: object) -> str:
    """As TOML has it; empty for what is not set."""
    if value is None:
        return ""
    plain = str(value) if isinstance(value, Path) else msgspec.to_builtins(value)
    if isinstance(plain, dict):
        given = [f"{json.dumps(key)} = {written(each)}" for key, each in plain.items() if each is not None]
        return f"{{ {', '.join(given)} }}" if given else "{}"
    return json.dumps(plain, ensure_ascii=False)


def _settings(struct: type[msgspec.Struct]) -> list[str]:
    meaning_of = meanings(struct)
    return [
        f"{_comment(meaning_of.get(field.name, ''))}\n#{field.name} = {_default(field) or '(not set)'}"
        for field in msgspec.structs.fields(struct)
        if field.name not in SECTIONS
    ]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
        if isinstance(value, list):
            value = ["python" if item == sys.executable else item for item in value]  # the same file on every machine
        return written(value)
    return "" if field.default is msgspec.NODEFAULT else written(field.default)


def _meaning_of_table(struct: type[msgspec.Struct]) -> str:
    return inspect.cleandoc(ast.get_docstring(_declaration(struct)) or "")


def _declaration(struct: type[msgspec.Struct]) -> ast.ClassDef:
    for node in ast.parse(inspect.getsource(sys.modules[struct.__module__])).body:
        if isinstance(node, ast.ClassDef) and node.name == struct.__name__:
            return node
    raise LookupError(struct.__name__)


def _comment(text: str) -> str:
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    lines = "\n\n".join(textwrap.fill(paragraph, LINE_WIDTH) for paragraph in paragraphs).split("\n")
    return "\n".join(f"# {line}".rstrip() for line in lines)
