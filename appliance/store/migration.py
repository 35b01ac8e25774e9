"""Brings `hearth.db` to this version's schema before anyone uses it: checks, creates, sets a copy aside, upgrades.

Blocking, with a connection of its own. Never opens a file that is not ours, is damaged, or is newer than this code.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from appliance.errors import Code, HearthError
from appliance.store.durable_files import move_into_place

APPLICATION_ID = int.from_bytes(b"HRTH", "big")
MIGRATIONS_DIR = Path(__file__).parent / "migrations"
_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")


class Migration(NamedTuple):
    number: int
    sql: str


def read_migrations(directory: Path = MIGRATIONS_DIR) -> list[Migration]:
    """In order; numbers start at 1 and have no gap, so that a number is a schema version."""
    migrations: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None or int(name[1]) != len(migrations) + 1:
            raise HearthError(Code.INTERNAL, f"{path.name} is not migration {len(migrations) + 1:04}")
        migrations.append(Migration(int(name[1]), path.read_text()))
    return migrations


def prepare(path: Path, migrations: list[Migration]) -> None:
    """Leave a sound database of the newest schema at `path`; raises `failed_precondition` for any other find."""
    try:
        if path.exists():
            _upgrade(path, migrations)
        else:
            _create(path, migrations)
    except sqlite3.Error as error:
        raise _refusal(path, f"cannot be opened: {error}") from error


def _create(path: Path, migrations: list[Migration]) -> None:
    """Under another name first: an empty file at `path` is then always damage, never a start that was cut short."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists():
        raise _refusal(path, f"is missing, but its journal {journal.name} is there")
    part = path.with_name(f"{path.name}.new")
    for leftover in path.parent.glob(f"{part.name}*"):
        leftover.unlink()
    with closing(_connect(part)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for migration in migrations:
            apply_migration(db, migration)
    move_into_place(part, path)


def _upgrade(path: Path, migrations: list[Migration]) -> None:
    if path.stat().st_size == 0:
        raise _refusal(path, "is empty")
    with closing(_connect(path)) as db:
        version = check_database(path, db, newest=len(migrations))
        if version < len(migrations):
            _set_copy_aside(db, path.with_name(f"{path.name}.schema-{version:04}"))
        for migration in migrations[version:]:
            apply_migration(db, migration)


def check_database(path: Path, db: sqlite3.Connection, newest: int) -> int:
    """The schema version of a sound database of ours."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise _refusal(path, "belongs to another program")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > newest:
        raise _refusal(path, f"has schema {version}, this version of hearth knows {newest}: install a newer one")
    problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise _refusal(path, f"is damaged: {problem}")
    return version


def _set_copy_aside(db: sqlite3.Connection, copy: Path) -> None:
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    with closing(_connect(part)) as target:
        db.backup(target)
    move_into_place(part, copy)


def apply_migration(db: sqlite3.Connection, migration: Migration) -> None:
    """All of it or nothing: `executescript` alone would keep the statements before a failing one."""
    try:
        db.executescript(f"BEGIN IMMEDIATE;\n{migration.sql}\n;PRAGMA user_version = {migration.number};")
        orphan = db.execute("PRAGMA foreign_key_check").fetchone()
        if orphan is not None:
            raise sqlite3.IntegrityError(f"migration {migration.number} leaves a dangling reference in {orphan[0]}")
        db.commit()
    except sqlite3.Error:
        db.rollback()
        raise


def _connect(path: Path) -> sqlite3.Connection:
    """References are checked after each migration, not within: a table may be rebuilt."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db


def _refusal(path: Path, problem: str) -> HearthError:
    return HearthError(
        Code.FAILED_PRECONDITION,
        f"the database {path} {problem}. Restore the last backup (hearth restore FILE --data-dir NEW), "
        "or choose another --data-dir",
    )
