"""Shapes: the presets of this box under the names that clients know them by, and what each would give a model here.

One box has the same few presets for every model; they belong to the library account and cannot be changed. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.domain import ShapePreset
from appliance.errors import Code, HearthError

COLLECTION = "deploymentShapes"
VERSION_ID = "v1"
"""Of every shape: what a preset means changes with a release of Hearth only."""
SERVERS_CHOICE = "default"


class Shape(NamedTuple):
    id: str
    preset: ShapePreset
    display_name: str
    description: str


SHAPES: Sequence[Shape] = (
    Shape("fast", ShapePreset.FAST, "Fast", "KV cache for several requests of full length at once"),
    Shape("minimal", ShapePreset.MINIMAL, "Minimal", "The smallest memory that serves one request of full length"),
    Shape("throughput", ShapePreset.THROUGHPUT, "Throughput", "All free memory of its devices"),
)
ALIASES = {SERVERS_CHOICE: "fast", "cost": "minimal"}
PARAM = "deploymentShape"


def find_shape(shape_id: str) -> Shape | None:
    return next((shape for shape in SHAPES if shape.id == shape_id), None)


def shape_name(shape: Shape, library_account_id: str) -> str:
    return f"accounts/{library_account_id}/{COLLECTION}/{shape.id}"


def version_name(shape: Shape, library_account_id: str) -> str:
    """What a deployment that asked for the shape shows."""
    return f"{shape_name(shape, library_account_id)}/versions/{VERSION_ID}"


def resolve_shape(asked: str, library_account_id: str) -> Shape:
    """Raises `invalid` for what `find_preset` does not find."""
    shape = find_preset(asked, library_account_id)
    if shape is None:
        known = ", ".join([*(shape.id for shape in SHAPES), *ALIASES])
        raise HearthError(Code.INVALID, f"{PARAM}: {asked[:100]!r} is no shape of this box; there is {known}", PARAM)
    return shape


def find_preset(asked: str, library_account_id: str) -> Shape | None:
    """From a preset's name in any case, `default`, or the full name of a shape or of its version."""
    match asked.split("/"):
        case ["accounts", account_id, found, shape_id] if (account_id, found) == (library_account_id, COLLECTION):
            return find_shape(shape_id)
        case ["accounts", account_id, found, shape_id, "versions", version_id] if (account_id, found, version_id) == (
            library_account_id,
            COLLECTION,
            VERSION_ID,
        ):
            return find_shape(shape_id)
        case [word]:
            return find_shape(ALIASES.get(word.lower(), word.lower()))
    return None
