"""What a model can be imported from, as `imports.py` sees it, and which of its files are of a model at all. Pure."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from appliance.errors import Code, HearthError
from appliance.services.grants import is_path
from models.addon_config import ADDON_CONFIG
from models.diffusion_folder import MODEL_INDEX
from models.folder_parts import has_model, model_files
from models.refusal import CONFIG

FILES_MAX = 1000

Tell = Callable[[int], None]
"""Told how many bytes more are there."""


class ImportSource(Protocol):
    described: str
    """For people: what was asked for."""

    async def open(self) -> dict[str, int]:
        """The files of a model that are there, and their sizes; once, before anything else."""

    @property
    def identity(self) -> str:
        """What `Model.importedFrom` says: where the files come from, as exactly as can be said."""

    def is_same(self, filename: str, path: Path, imported_before: str) -> bool:
        """Whether the file at `path`, of an earlier attempt, is this one. `imported_before`: its source's identity.

        Blocking.
        """

    def part_name(self, filename: str) -> str:
        """What tells a half of this file from a half of another that had its name before."""

    async def fetch(self, filename: str, size_bytes: int, part: Path, tell: Tell) -> None:
        """Bring the file to `part`, going on with what lies there; synced when this returns."""

    async def close(self) -> None: ...


def wanted(sizes: dict[str, int], described: str) -> dict[str, int]:
    """Raises `invalid` when there is no model among them."""
    found = {name: sizes[name] for name in model_files(name for name in sizes if is_path(name))}
    if not has_model(found):
        message = f"there is no {CONFIG}, {MODEL_INDEX} or {ADDON_CONFIG}"
        raise HearthError(Code.INVALID, f"{described} holds no model: {message}")
    if len(found) > FILES_MAX:
        raise HearthError(Code.INVALID, f"{described} holds more than {FILES_MAX} files")
    return found
