"""The folders of datasets: files move in, leave, and are swept. Blocking; knows no rows."""

import logging
from pathlib import Path

from appliance.store.durable_files import move_into_place, remove_tree, sync_directory

logger = logging.getLogger(__name__)


def take_in(part: Path, folder: Path, filename: str) -> None:
    """A synced file, into a folder that may not be there yet."""
    if not folder.exists():
        folder.mkdir(mode=0o700)
        sync_directory(folder.parent)
    move_into_place(part, folder / filename)


def remove_others(folder: Path, kept: set[str]) -> None:
    """Every file of a folder, if it is there, that is not to be kept."""
    if folder.exists():
        for path in folder.iterdir():
            if path.name not in kept:
                remove_tree(path)


def sweep(directory: Path, folders: dict[str, set[str]]) -> None:
    """Keep these files in these folders, and nothing else."""
    for path in directory.iterdir():
        if path.name not in folders:
            logger.info("removing %s, which no dataset owns", path.name)
            remove_tree(path)
        else:
            remove_others(path, folders[path.name])
