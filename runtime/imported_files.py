"""Whether a model's folder is still the one that was imported."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from models.refusal import ModelRefused
from runtime.engine import LoadRefused


class Inspected(Protocol):
    """What is known of a folder, whatever kind of model it holds."""

    @property
    def file_sha256(self) -> Mapping[str, str]: ...


Info = TypeVar("Info", bound=Inspected)


def inspect_imported(
    inspect: Callable[..., Info], directory: Path, file_sha256: Mapping[str, str], *, may_list_more: bool = False
) -> Info:
    """Reads everything but the weights, whose headers it checks: hashing them would take longer than loading them.

    `file_sha256`: of the files that were imported. `may_list_more`: some of them may be of no use to this engine, such
    as those of a language model that is served as an embedding model. Raises LoadRefused.
    """
    try:
        info = inspect(directory, known_sha256=file_sha256)
    except ModelRefused as refusal:
        raise LoadRefused(refusal.message) from refusal
    changed = {name for name, sha256 in info.file_sha256.items() if file_sha256.get(name) != sha256}
    if not may_list_more:
        changed |= file_sha256.keys() - info.file_sha256.keys()
    if changed:
        raise LoadRefused(f"these files are not what was imported: {', '.join(sorted(changed))}")
    return info
