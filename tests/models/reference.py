"""What transformers itself makes of a config: the names and shapes it stores, the windows it attends with."""

import json
from pathlib import Path
from typing import Any

from models.safetensors_header import read_header
from tests.fakes.tiny_llm import Architecture, build_tiny_model


def saved(directory: Path, architecture: Architecture, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config.json and the stored shapes of a tiny model, as transformers writes them."""
    build_tiny_model(directory, architecture, **fields)
    with (directory / "model.safetensors").open("rb") as file:
        shapes = {name: entry.shape for name, entry in read_header(file, "model.safetensors").items()}
    return json.loads((directory / "config.json").read_bytes()), shapes
