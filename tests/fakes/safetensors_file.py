"""Safetensors files taken apart and put together by hand, so that tests can write what no library would."""

import json
from pathlib import Path
from typing import Any


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a well-formed file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(path: Path, header: dict[str, Any] | str, data: bytes) -> None:
    """Write any header, well-formed or not, before any data."""
    text = header if isinstance(header, str) else json.dumps(header)
    encoded = text.encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
