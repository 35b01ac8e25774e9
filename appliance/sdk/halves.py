"""Halves of files: what of a download lies there under another name until it is whole, and which version it is of."""

import re
from pathlib import Path
from typing import NamedTuple, Self

CHANGED_STATUSES = (412, 416)
"""The server's file is another one by now."""

_UNFIT = re.compile(r"[^0-9A-Za-z-]")


class Half(NamedTuple):
    path: Path
    """`.NAME.VERSION.part`, in the folder of the file."""
    version: str
    """The server's ETag."""
    num_bytes: int

    @classmethod
    def find(cls, file: Path) -> Self | None:
        for path in sorted(file.parent.glob(f".{_literal(file.name)}.*.part")):
            version = path.name.removeprefix(f".{file.name}.").removesuffix(".part")
            return cls(path, version, path.stat().st_size)
        return None

    @classmethod
    def begin(cls, file: Path, etag: str) -> Self:
        version = _UNFIT.sub("", etag)
        return cls(file.with_name(f".{file.name}.{version}.part"), version, 0)

    @property
    def headers(self) -> dict[str, str]:
        """Ask for the rest, if it is the rest of the same."""
        return {"Range": f"bytes={self.num_bytes}-", "If-Match": f'"{self.version}"'} if self.num_bytes else {}


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
