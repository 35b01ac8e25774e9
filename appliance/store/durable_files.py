"""Writing files so that after a power cut each is either whole or not there. Blocking: callers use a thread.

The order is always: write under another name, fsync, rename, fsync the folder.
"""

import logging
import os
import secrets
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)


def write_private(path: Path, content: bytes) -> None:
    """Create or replace `path` atomically, readable by its owner only."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        move_into_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def move_into_place(part: Path, path: Path) -> None:
    """Rename a file or folder whose content is synced; both sides on one file system."""
    part.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_synced(source: Path, target: Path) -> None:
    """The content only, on the disk when this returns; the folder is the caller's to sync."""
    with source.open("rb") as reading, target.open("xb") as writing:
        shutil.copyfileobj(reading, writing)
        writing.flush()
        os.fsync(writing.fileno())


def remove_tree(path: Path) -> None:
    """A file, or a folder and all in it; what cannot be removed now is swept at the next start."""
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("cannot remove %s: %s", path, error)
