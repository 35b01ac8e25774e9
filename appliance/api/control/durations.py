"""Durations on the wire: read as `90s`, `10m`, `1h30m`, `0.5s`, `168h0m0s`; written in seconds, `90s`."""

import re
from typing import Annotated

import msgspec

from appliance.errors import Code, HearthError

DURATION_S_MAX = 10 * 365 * 86400.0
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+|0")

Duration = Annotated[
    str,
    msgspec.Meta(
        description="A duration.",
        examples=["90s", "10m", "1h30m"],
        extra_json_schema={"pattern": rf"^(({_PART.pattern})+|0)?$"},
    ),
]
"""Of a body. The pattern is for who reads the description: `parse_duration` refuses in better words."""


def parse_duration(text: str, param: str) -> float:
    """Seconds; raises `invalid` naming `param`."""
    if _WHOLE.fullmatch(text) is None:
        raise HearthError(Code.INVALID, f"{param}: {text[:40]!r} is no duration such as 90s, 10m or 1h30m", param)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    if seconds > DURATION_S_MAX:
        raise HearthError(Code.INVALID, f"{param}: at most {render_duration(DURATION_S_MAX)}", param)
    return seconds


def render_duration(seconds: float) -> str:
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
