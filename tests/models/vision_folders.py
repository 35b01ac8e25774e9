"""Folders of tiny vision-language models with something changed, and what inspection says of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.llm_folder import inspect_llm
from models.refusal import ModelRefused

Change = Callable[[dict[str, Any]], None]


def copied(source: Path, target: Path, *, without: str | None = None, **changes: Change) -> Path:
    """A folder like `source`, with some of its JSON files changed; keywords are their names without the suffix."""
    for file in source.iterdir():
        if file.name == without:
            continue
        (target / file.name).write_bytes(file.read_bytes())
    for name, change in changes.items():
        path = target / f"{name}.json"
        value = json.loads(path.read_bytes())
        change(value)
        path.write_text(json.dumps(value))
    return target


def refusal(directory: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        inspect_llm(directory)
    return refused.value
