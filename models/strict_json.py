"""JSON from people we do not trust: what the standard parser lets through and later code trips over is refused here.

Refused: duplicate keys, NaN and Infinity, numbers without end, lone surrogates, deep nesting, more values than allowed
(a hundred megabytes of `[]` would be gigabytes of lists), and anything whose top is not what it is to be.
"""

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

INT_DIGITS_MAX = 100  # released tokenizer configs hold 10**30, so 64 bits would be too few
_MAYBE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class MalformedJson(ValueError):
    """The message says what is wrong and never quotes more than a short piece of the text."""


class DuplicateKey(MalformedJson):
    pass


def parse_object(data: bytes, *, values_max: int) -> dict[str, Any]:
    """Parse one UTF-8 JSON object; raises MalformedJson."""
    value = _parse(data, values_max)
    if not isinstance(value, dict):
        raise MalformedJson("is not a JSON object")
    return value


def parse_list(data: bytes, *, values_max: int) -> list[Any]:
    """Parse one UTF-8 JSON list; raises MalformedJson."""
    value = _parse(data, values_max)
    if not isinstance(value, list):
        raise MalformedJson("is not a JSON list")
    return value


def _parse(data: bytes, values_max: int) -> object:
    # Commas and brackets inside strings count too: an upper bound that costs nothing is enough.
    if data.count(b",") + data.count(b"[") + data.count(b"{") > values_max:
        raise MalformedJson(f"holds more than {values_max} values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_int=_bounded_int,
            parse_float=_finite_float,
            parse_constant=_refuse_constant,
        )
        if _MAYBE_SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson(f"is not UTF-8 at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise MalformedJson("holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise MalformedJson(f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise MalformedJson("is nested too deeply") from error
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        [(repeated, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise DuplicateKey(f"holds the key {repeated[:100]!r} twice")
    return result


def _bounded_int(text: str) -> int:
    if len(text) > INT_DIGITS_MAX:
        raise MalformedJson(f"holds a number of {len(text)} digits")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedJson(f"holds a number out of range: {text[:40]}")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise MalformedJson(f"holds {text}, which is not JSON")
