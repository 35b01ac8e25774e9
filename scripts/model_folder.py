"""Puts a model that a script has made in the place of the committed one: wholly, small enough, readable for all."""

import shutil
from pathlib import Path


def replace_folder(written: Path, directory: Path, max_bytes: int) -> None:
    """Both on one file system. Raises ValueError for a folder above `max_bytes`; the old one stays then."""
    for path in written.iterdir():
        path.chmod(0o644)
    size_bytes = sum(path.stat().st_size for path in written.iterdir())
    if size_bytes > max_bytes:
        raise ValueError(f"the model folder has {size_bytes} bytes, more than {max_bytes}")
    shutil.rmtree(directory, ignore_errors=True)
    written.rename(directory)
