"""Templates that requests bring, to make one text of an object's fields: fields are put in, and nothing is computed.

What a client sends is never run: a template that wants more than `{{ field }}` or `{field}` is refused. Pure.
"""

import re
from collections.abc import Mapping

import msgspec

from appliance.errors import Code, HearthError

PARAM = "prompt_template"
Field = str | int | float | bool | None

_FIELD = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")
_COMPUTING = re.compile(r"\{[{%#]")


class PromptTemplate:
    """Raises `invalid` for what is no plain substitution."""

    def __init__(self, text: str) -> None:
        self._literals: list[str] = []
        self._fields: list[str] = []
        end = 0
        for match in _FIELD.finditer(text):
            self._literals.append(text[end : match.start()])
            self._fields.append(match[1] or match[2])
            end = match.end()
        self._literals.append(text[end:])
        for literal in self._literals:
            if computing := _COMPUTING.search(literal):
                shown = literal[computing.start() :][:40]
                message = f"{PARAM}: {shown!r}: only fields are put in, as {{{{ name }}}} or {{name}}"
                raise HearthError(Code.INVALID, message, PARAM)

    def fill(self, values: Mapping[str, Field], param: str, length_max: int) -> str:
        """`param` is what the values are called; raises `too_large` for more characters than `length_max`."""
        shown = [_shown(values, field, param) for field in self._fields]
        if sum(map(len, self._literals)) + sum(map(len, shown)) > length_max:
            message = f"{param}: the template makes more of it than {length_max} characters"
            raise HearthError(Code.TOO_LARGE, message, param)
        pairs = zip(self._literals, [*shown, ""], strict=True)
        return "".join(part for pair in pairs for part in pair)


def _shown(values: Mapping[str, Field], field: str, param: str) -> str:
    value = values.get(field)
    if value is None:
        raise HearthError(Code.INVALID, f"{param}: has no field {field[:64]!r}, which the template names", param)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
