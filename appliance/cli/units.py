"""Sizes and times as a person writes and reads them: `20GiB`; `1.5 GiB`, `12 min`."""

import re

from appliance.errors import Code, HearthError

_BYTES = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_bytes(text: str, name: str) -> int:
    """`20GiB`, `512 MiB`, `8GB`; raises `invalid` naming the option."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _BYTES:
        raise HearthError(Code.INVALID, f"{name}: {text!r} is not a size such as 20GiB or 512MiB", name)
    return int(float(match[1]) * _BYTES[match[2].upper()])


def readable_bytes(num_bytes: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 2**10:.0f} KiB"


def readable_duration(seconds: float) -> str:
    """In the largest unit that leaves a number above one, rounded down."""
    for unit, size in (("d", 2 * 86400), ("h", 2 * 3600), ("min", 2 * 60)):
        if seconds >= size:
            return f"{int(seconds / (size / 2))} {unit}"
    return f"{max(0, int(seconds))} s"
