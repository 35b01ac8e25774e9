"""An upgrade tried on a copy of the database that has no name and vanishes with the process, however that ends."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from appliance.errors import Code, HearthError
from appliance.store.migration import Migration, apply_migration, check_database
from appliance.store.snapshot import open_read_only

UNNAMED = ""
"""SQLite's word for a database in a temporary file, which it unlinks as soon as it has opened it."""


class Rehearsal(NamedTuple):
    from_schema: int
    to_schema: int
    duration_s: float
    """Of the migrations and the check afterwards."""


def rehearse_upgrade(path: Path, migrations: list[Migration]) -> Rehearsal:
    """Raises `failed_precondition` for whatever would keep the daemon from upgrading it. The daemon may be at work."""
    if not path.exists():
        raise HearthError(Code.FAILED_PRECONDITION, f"there is no database {path}")
    try:
        with (
            closing(open_read_only(path)) as source,
            closing(sqlite3.connect(UNNAMED, isolation_level=None)) as copy,
        ):
            source.backup(copy)
            from_schema = check_database(path, copy, newest=len(migrations))
            began_at = time.monotonic()
            for migration in migrations[from_schema:]:
                apply_migration(copy, migration)
            to_schema = check_database(path, copy, newest=len(migrations))
            return Rehearsal(from_schema, to_schema, time.monotonic() - began_at)
    except sqlite3.Error as error:
        raise HearthError(Code.FAILED_PRECONDITION, f"the database {path} cannot be upgraded: {error}") from error
