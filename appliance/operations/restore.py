"""`hearth restore`: a data directory made from a backup, checked in every way that a later surprise could come from.

The directory is locked while this works and holds an empty database until all is well, so that no daemon can start on
half of it. What is refused leaves nothing behind but the lock's file.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from appliance.errors import Code, HearthError
from appliance.operations.archive import (
    MANIFEST,
    MANIFEST_BYTES_MAX,
    File,
    Manifest,
    MemberReader,
    read_manifest,
    read_members,
)
from appliance.operations.backup import ADMIN_KEY, DATABASE, HEAD_FILE, MASTER_KEY
from appliance.operations.encryption import Key, opened
from appliance.services import audit
from appliance.services.audit_verification import verify_log
from appliance.services.keyring import load_keyring
from appliance.store.database import Database
from appliance.store.durable_files import move_into_place, sync_directory
from appliance.store.lock import LOCK_FILE, lock_data_dir
from appliance.store.migration import read_migrations
from appliance.store.snapshot import FOLDERS, Owner, check_copy, list_owners, mark_incomplete

UNPACKED = "restoring"
"""Folder within the data directory; gone, like the empty database, when the restore has ended well or was refused."""
PIECE_BYTES = 1024 * 1024
METHOD = "RestoreBackup"
NO_FILES = "its files are not in the backup that was restored: upload them again"


class Restored(NamedTuple):
    manifest: Manifest
    incomplete: list[str]
    """Full names of what has to be uploaded again."""
    audit_problem: str
    """What is wrong with the audit log; empty: nothing."""


def restore_backup(
    backup: Path,
    data_dir: Path,
    *,
    key: Key,
    master_key_file: Path | None,
    account_id: str,
    builtin_models: Collection[str],
    accept_audit_loss: bool = False,
    on_progress: Callable[[str, int], None] = lambda name, size: None,
) -> Restored:
    """Raises `failed_precondition` naming the backup when it is not sound, or not all that a start needs.

    `account_id`: whose audit log tells of it. `builtin_models`: those that every daemon brings along.
    """
    with _empty_directory(data_dir) as unpacked:
        try:
            manifest = _unpack(backup, unpacked, key, on_progress)
            audit_key = _master_key(unpacked, master_key_file)
            check_copy(unpacked / DATABASE, len(read_migrations()))
            restored = asyncio.run(_look_through(unpacked, audit_key, manifest, account_id, builtin_models))
        except HearthError as error:
            raise HearthError(error.code, f"the backup {backup} cannot be restored: {error.message}") from error
        if restored.audit_problem and not accept_audit_loss:
            message = f"the audit log in the backup {backup} is not whole: {restored.audit_problem}"
            raise _refusal(f"{message}. To restore it nevertheless, give --accept-audit-loss")
        _move_in(unpacked, data_dir)
    return restored


@contextmanager
def _empty_directory(data_dir: Path) -> Iterator[Path]:
    """A folder in it to unpack into; everything is removed again when the block fails."""
    _refuse_what_is_in_use(data_dir)
    with lock_data_dir(data_dir):
        _refuse_what_is_in_use(data_dir)
        _clear(data_dir)  # of a restore that was killed
        (data_dir / DATABASE).touch(mode=0o600)  # a daemon refuses an empty one
        unpacked = data_dir / UNPACKED
        unpacked.mkdir(mode=0o700)
        is_done = False
        try:
            yield unpacked
            is_done = True
        finally:
            if not is_done:
                _clear(data_dir)
        unpacked.rmdir()


def _refuse_what_is_in_use(data_dir: Path) -> None:
    """Nothing but what a killed restore leaves may be there."""
    found = {path.name for path in data_dir.iterdir()} if data_dir.exists() else set()
    has_state = (data_dir / DATABASE).exists() and (data_dir / DATABASE).stat().st_size > 0
    if found - {LOCK_FILE, DATABASE, UNPACKED} or has_state:
        raise HearthError(Code.FAILED_PRECONDITION, f"{data_dir} is not empty: restore into a new directory")


def _clear(data_dir: Path) -> None:
    shutil.rmtree(data_dir / UNPACKED, ignore_errors=True)
    for folder in FOLDERS:
        shutil.rmtree(data_dir / folder, ignore_errors=True)
    for path in data_dir.glob(f"{DATABASE}*"):  # also the copy that an upgrade sets aside
        path.unlink()
    for name in (HEAD_FILE, MASTER_KEY, ADMIN_KEY):
        (data_dir / name).unlink(missing_ok=True)


def _unpack(backup: Path, unpacked: Path, key: Key, on_progress: Callable[[str, int], None]) -> Manifest:
    """Write every member and compare all of them with the list that comes last."""
    written: list[File] = []
    manifest: Manifest | None = None
    with backup.open("rb") as file, opened(file, key) as content:
        for member in read_members(content):
            if manifest is not None:
                raise _refusal("it is damaged: something follows its end")
            if member.name == MANIFEST:
                manifest = read_manifest(_read_whole(member.content, member.size_bytes))
            else:
                path = _make_place(unpacked, member.name)
                written.append(_write(path, member.name, member.content, on_progress))
    if manifest is None:
        raise _refusal("it is cut off or no backup of hearth: the list of its files is missing")
    _compare(manifest.files, written)
    return manifest


def _make_place(unpacked: Path, name: str) -> Path:
    """Its folders, each for their owner only."""
    for folder in reversed(Path(name).parents):
        (unpacked / folder).mkdir(mode=0o700, exist_ok=True)
    return unpacked / name


def _write(path: Path, name: str, content: MemberReader, on_progress: Callable[[str, int], None]) -> File:
    sha256, size_bytes = hashlib.sha256(), 0
    with open(path, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        while piece := content.read(PIECE_BYTES):
            file.write(piece)
            sha256.update(piece)
            size_bytes += len(piece)
            on_progress(name, len(piece))
        file.flush()
        os.fsync(file.fileno())
    return File(name, size_bytes, sha256.hexdigest())


def _read_whole(content: MemberReader, size_bytes: int) -> bytes:
    if size_bytes > MANIFEST_BYTES_MAX:
        raise _refusal("it is damaged: the list of its files is too long")
    return content.read()


def _compare(listed: list[File], written: list[File]) -> None:
    for expected, found in zip(listed, written, strict=False):
        if expected != found:
            raise _refusal(f"it is damaged: {found.name} is not what was backed up")
    if len(listed) != len(written) or DATABASE not in {file.name for file in written}:
        raise _refusal("it is damaged: files are missing")


def _master_key(unpacked: Path, given: Path | None) -> bytes:
    """The key of the audit log, from the backup's master key or the one given, which then moves in beside the rest."""
    path = unpacked / MASTER_KEY
    if given is not None:
        path.write_bytes(given.read_bytes())
        path.chmod(0o600)
    if not path.exists():
        raise _refusal("it does not hold the master key: give the file that does with --master-key FILE")
    return load_keyring(path, may_make=False).derive("audit/v1")


async def _look_through(
    unpacked: Path, audit_key: bytes, manifest: Manifest, account_id: str, builtin_models: Collection[str]
) -> Restored:
    """Upgrade the database, verify the audit log, mark what has no files, and tell the audit log of it all."""
    database = await Database.open(unpacked / DATABASE, audit_key)
    try:
        verdict = await asyncio.to_thread(verify_log, unpacked / DATABASE, audit_key)
        found = await asyncio.to_thread(_find_incomplete, unpacked, manifest)
        owners = [owner for owner in found if owner.name not in builtin_models]
        async with database.transaction() as tx:
            await audit.record_own_act(tx, METHOD, f"accounts/{account_id}", f"as of {manifest.create_time}")
            for owner in owners:
                await mark_incomplete(tx, owner, NO_FILES)
                await audit.record_own_act(tx, METHOD, owner.name, NO_FILES)
    finally:
        await database.close()
    return Restored(manifest, [owner.name for owner in owners], verdict.problem)


def _find_incomplete(unpacked: Path, manifest: Manifest) -> list[Owner]:
    left_out = {left_out.name for left_out in manifest.left_out}
    return [
        owner
        for owner in list_owners(unpacked / DATABASE)
        if owner.is_ready and (owner.name in left_out or not (unpacked / owner.folder / owner.directory).exists())
    ]


def _move_in(unpacked: Path, data_dir: Path) -> None:
    """The database last: once it is there, a daemon may start."""
    for folder in (path for path in unpacked.rglob("*") if path.is_dir()):
        sync_directory(folder)
    for path in sorted(unpacked.iterdir(), key=lambda path: path.name == DATABASE):
        move_into_place(path, data_dir / path.name)


def _refusal(problem: str) -> HearthError:
    return HearthError(Code.FAILED_PRECONDITION, problem)
