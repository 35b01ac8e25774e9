"""Reads the texts/*.toml files that the corpus is made of, each checked against the shape its reader names."""

from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

_DIRECTORY = Path(__file__).parent / "texts"


def read_text(name: str, shape: type[T]) -> T:
    return msgspec.toml.decode((_DIRECTORY / f"{name}.toml").read_bytes(), type=shape)
