"""An upgrade is tried without touching what it is tried on."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.errors import HearthError
from appliance.store.migration import Migration, read_migrations
from appliance.store.rehearsal import rehearse_upgrade
from tests.appliance.store.old_databases import NEWEST, make_database, schema_of


@pytest.mark.parametrize("schema", [1, NEWEST])
def test_every_schema_is_brought_to_the_newest_on_a_copy_that_vanishes(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "hearth.db"
    make_database(path, schema)
    for leftover in tmp_path.glob("hearth.db.*"):
        leftover.unlink()
    before = path.read_bytes()
    rehearsal = rehearse_upgrade(path, read_migrations())
    assert (rehearsal.from_schema, rehearsal.to_schema) == (schema, NEWEST)
    assert schema_of(path) == schema
    assert path.read_bytes() == before
    assert {found.name for found in tmp_path.iterdir()} <= {"hearth.db", "hearth.db-shm", "hearth.db-wal"}


def test_a_migration_that_would_fail_is_told_of_beforehand(tmp_path: Path) -> None:
    make_database(tmp_path / "hearth.db", NEWEST)
    broken = [*read_migrations(), Migration(NEWEST + 1, "ALTER TABLE missing ADD COLUMN more TEXT;")]
    with pytest.raises(HearthError, match=r"hearth\.db cannot be upgraded: no such table"):
        rehearse_upgrade(tmp_path / "hearth.db", broken)
    assert schema_of(tmp_path / "hearth.db") == NEWEST


def test_a_database_of_a_newer_version_or_of_nobody_is_refused(tmp_path: Path) -> None:
    make_database(tmp_path / "hearth.db", NEWEST)
    with closing(sqlite3.connect(tmp_path / "hearth.db")) as db:
        db.execute(f"PRAGMA user_version = {NEWEST + 1}")
    with pytest.raises(HearthError, match="install a newer one"):
        rehearse_upgrade(tmp_path / "hearth.db", read_migrations())
    with pytest.raises(HearthError, match="there is no database"):
        rehearse_upgrade(tmp_path / "other.db", read_migrations())
