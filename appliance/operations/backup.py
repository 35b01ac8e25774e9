"""`hearth backup`: the state of a data directory in one file, while the daemon works on it or while there is none.

What a backup holds was committed before it began, and nothing of it is under its name before all of it is on the disk.
Keys in clear leave the machine only in an encrypted one. Reads files and the database; changes neither.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import BinaryIO, NamedTuple

from appliance.errors import Code, HearthError
from appliance.operations.archive import ArchiveWriter, LeftOut, Manifest, writing_archive
from appliance.operations.encryption import Lock, sealing
from appliance.store.durable_files import move_into_place
from appliance.store.migration import read_migrations
from appliance.store.snapshot import Owner, check_copy, copy_database, list_owners

DATABASE = "hearth.db"
HEAD_FILE = "audit-head"
MASTER_KEY = "master-key"
ADMIN_KEY = "admin-api-key"
ABANDONED_AFTER_S = 24 * 3600.0
"""What a killed backup left is removed by a later one, once nothing was written to it for so long."""
MODELS_NOT_WANTED = "made without --with-models"
GONE = "deleted while the backup was made"


class Snapshot(NamedTuple):
    """The database as of one moment, as an open file that has no name any more."""

    file: BinaryIO
    schema: int
    owners: list[Owner]


def make_backup(
    data_dir: Path,
    target: Path,
    *,
    lock: Lock | None,
    with_models: bool,
    master_key_file: Path,
    builtin_models: Collection[str],
    now: float,
    on_progress: Callable[[str, int], None] = lambda name, size: None,
) -> tuple[Path, Manifest]:
    """Write a backup to `target`, or under a name of its time into that folder; returns where, and what it holds.

    `builtin_models`: full names of those that every daemon brings along and that need no backup.
    Raises `conflict` when the file exists, `failed_precondition` when the data directory cannot be backed up.
    """
    path = _choose_name(target, lock, now)
    with (
        _part(path) as part,
        nullcontext(part) if lock is None else sealing(part, lock) as file,
        writing_archive(file, on_progress) as writer,
    ):
        snapshot = _add_database(writer, data_dir, now)
        has_master_key = lock is not None and _add_if_there(writer, MASTER_KEY, master_key_file)
        if lock is not None:
            _add_if_there(writer, ADMIN_KEY, data_dir / ADMIN_KEY)
        owners = [owner for owner in snapshot.owners if with_models or owner.name not in builtin_models]
        manifest = Manifest(
            hearth_version=distribution_version("hearth"),
            schema=snapshot.schema,
            create_time=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            has_models=with_models,
            has_master_key=has_master_key,
            left_out=list(_add_folders(writer, data_dir, owners, with_models)),
            files=writer.files,
        )
        writer.finish(manifest, now)
    return path, manifest


def _add_database(writer: ArchiveWriter, data_dir: Path, now: float) -> Snapshot:
    # The head first: the database then has all rows that it tells of, and perhaps more.
    _add_if_there(writer, HEAD_FILE, data_dir / HEAD_FILE)
    with _snapshot(data_dir) as snapshot:
        writer.add(DATABASE, snapshot.file, os.fstat(snapshot.file.fileno()).st_size, now)
    return snapshot


def _add_folders(
    writer: ArchiveWriter, data_dir: Path, owners: Iterable[Owner], with_models: bool
) -> Iterator[LeftOut]:
    for owner in owners:
        if owner.folder == "models" and not with_models:
            if owner.is_ready:
                yield LeftOut(owner.name, MODELS_NOT_WANTED)
        elif not _add_folder(writer, data_dir / owner.folder / owner.directory, owner) and owner.is_ready:
            yield LeftOut(owner.name, GONE)


def _add_folder(writer: ArchiveWriter, folder: Path, owner: Owner) -> bool:
    """False when it is not there, or was deleted meanwhile: what it lacks then shows at the restore."""
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise HearthError(Code.FAILED_PRECONDITION, f"{path} is no plain file: hearth did not put it there")
            if path.is_file():
                _add(writer, f"{owner.folder}/{owner.directory}/{path.relative_to(folder)}", path)
    except FileNotFoundError:
        return False
    return folder.exists()


def _add_if_there(writer: ArchiveWriter, name: str, path: Path) -> bool:
    try:
        _add(writer, name, path)
    except FileNotFoundError:
        return False
    return True


def _add(writer: ArchiveWriter, name: str, path: Path) -> None:
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        writer.add(name, file, about.st_size, about.st_mtime)


@contextmanager
def _snapshot(data_dir: Path) -> Iterator[Snapshot]:
    """Beside the database, where what it holds is as well protected; its name is gone as soon as it is open."""
    _remove_abandoned(data_dir, ".backup-*.db")
    if not (data_dir / DATABASE).exists():
        raise HearthError(Code.FAILED_PRECONDITION, f"{data_dir} is no data directory of hearth: it has no {DATABASE}")
    with tempfile.NamedTemporaryFile(dir=data_dir, prefix=".backup-", suffix=".db") as reserved:  # mode 0600
        copy = Path(reserved.name)
        copy_database(data_dir / DATABASE, copy)
        schema = check_copy(copy, len(read_migrations()))
        owners = list_owners(copy)
        file = copy.open("rb")
    with file:
        yield Snapshot(file, schema, owners)


@contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """A file that is not under its name until the block has ended without an error and all of it is on the disk."""
    _remove_abandoned(path.parent, ".hearth-backup-*.part")
    part = path.with_name(f".hearth-backup-{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb", opener=_open_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            raise _exists(path)
        move_into_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def _choose_name(target: Path, lock: Lock | None, now: float) -> Path:
    if target.is_dir():
        name = datetime.fromtimestamp(now, UTC).strftime("hearth-%Y%m%dT%H%M%SZ.tar")
        target = target / (name if lock is None else f"{name}.age")
    if target.exists():
        raise _exists(target)
    return target


def _exists(path: Path) -> HearthError:
    return HearthError(Code.CONFLICT, f"{path} exists: name another file, or a folder, which gets one file per backup")


def _remove_abandoned(folder: Path, pattern: str) -> None:
    for leftover in folder.glob(pattern):
        if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER_S:
            leftover.unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
