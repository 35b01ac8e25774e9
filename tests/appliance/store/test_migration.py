import hashlib
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from appliance.errors import Code, HearthError
from appliance.store.migration import APPLICATION_ID, MIGRATIONS_DIR, Migration, prepare, read_migrations
from models.info import AnyServedInfo
from tests.appliance.store.samples import INFO

# A shipped migration never changes: databases that ran it would differ from new ones.
SHIPPED = {
    "0001_initial.sql": "bbc0f935f75f2b3809b92b1bff8d25259a09a8c93c601df357ae2a313f4e7677",
    "0002_speculation.sql": "5e2835cc16f4531200d9155304d977d89ebca68fe0809ebfe5bee87162b6ae33",
    "0003_fleet.sql": "bde8ca00ac889fef077b4f82e075c57797b4079d1df9127d80d082fbf909ab1f",
    "0004_addons.sql": "1f7393efa113175e2ad69ee9fcfd6e082e533bcbf6010e4a81af0ebb7982b481",
    "0005_audit.sql": "e3435397db1e5591aba15340d1ff369e703e907ebb435ee68d46068c5c609b71",
    "0006_identity.sql": "53923a0b1f93ef7cd3df833d20f36ba70a3bf2ab31108f6fd7f691b6dbb7e2f8",
    "0007_usage.sql": "33561861c14e53a99d20f97bbea564c73e3e4e70c111d0f6c2e2410ae26c50f7",
    "0008_models.sql": "fd2e35fb3603ea3ec6742af64196f7faa3620a635244e39064f0083c5a4edca0",
    "0009_datasets.sql": "4420d82f5496f34fe4d64a817219d6bdbc8f739efa3b63a436a21e498154f87e",
    "0010_shapes.sql": "0d13b124aed593bb4a2f83930e743c9d26cebdba6b14242c99212740f7b0dda7",
    "0011_engines.sql": "913ff90e48b5ef1f4d2b9ecb0f8f38c3a01339732609d349014567ffecc2f4c0",
    "0012_usage_of_engines.sql": "846ec338a734f2948560f73dea924f149a1b4834834a84f9edb537157772f548",
    "0013_preparations.sql": "469f9ed45cf3c9fb76ab1185412ae05d5778ef6e9babb0e034d93a495956d18a",
}
SCHEMA = Path(__file__).parent / "schema.sql"

FIRST = Migration(1, "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);")
SECOND = Migration(2, "CREATE TABLE b (x INTEGER) STRICT; INSERT INTO b SELECT x + 1 FROM a;")


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(statement).fetchall()


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def schema_of(path: Path) -> str:
    statements = rows(path, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")
    return "".join(f"{statement};\n" for (statement,) in statements)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hearth.db"


def test_shipped_migrations_are_pinned() -> None:
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in MIGRATIONS_DIR.glob("*.sql")}
    assert found == SHIPPED


def test_all_migrations_together_give_the_schema_that_is_checked_in(path: Path) -> None:
    prepare(path, read_migrations())
    assert schema_of(path) == SCHEMA.read_text()


def test_every_table_is_strict_and_every_foreign_key_has_an_index(path: Path) -> None:
    prepare(path, read_migrations())
    tables = rows(path, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'")
    assert len(tables) >= 7
    for table, is_strict in tables:
        assert is_strict, table
        indexed = [
            [column for (column,) in rows(path, f"SELECT name FROM pragma_index_info('{index}') ORDER BY seqno")]
            for (index,) in rows(path, f"SELECT name FROM pragma_index_list('{table}') WHERE partial = 0")
        ]
        keys: dict[object, list[object]] = {}
        for number, column in rows(path, f"SELECT id, \"from\" FROM pragma_foreign_key_list('{table}') ORDER BY seq"):
            keys.setdefault(number, []).append(column)
        for columns in keys.values():
            assert any(index[: len(columns)] == columns for index in indexed), (table, columns)


def test_a_new_database_is_marked_as_ours(path: Path) -> None:
    prepare(path, [FIRST, SECOND])
    assert rows(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert rows(path, "PRAGMA user_version") == [(2,)]
    assert rows(path, "SELECT x FROM b") == [(2,)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_start_that_was_cut_short_is_made_anew(path: Path) -> None:
    path.with_name("hearth.db.new").write_bytes(b"half")
    path.with_name("hearth.db.new-journal").write_bytes(b"half")
    prepare(path, [FIRST])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_older_database_is_upgraded_and_its_copy_set_aside(path: Path) -> None:
    prepare(path, [FIRST])
    execute(path, "INSERT INTO a VALUES (7)")
    prepare(path, [FIRST, SECOND])
    assert rows(path, "SELECT x FROM b ORDER BY x") == [(2,), (8,)]
    copy = path.with_name("hearth.db.schema-0001")
    assert rows(copy, "PRAGMA user_version") == [(1,)]
    assert rows(copy, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert rows(copy, "SELECT x FROM a ORDER BY x") == [(1,), (7,)]


def test_models_of_before_there_were_other_engines_are_language_models(path: Path) -> None:
    before = [migration for migration in read_migrations() if migration.number <= 10]
    prepare(path, before)
    info = {name: value for name, value in msgspec.to_builtins(INFO).items() if name != "engine"}
    columns = "account_id, id, display_name, description, kind, state, status_message, is_public, directory, info"
    values = f"'acme', 'mine', '', '', 'HF_BASE_MODEL', 'READY', '', 0, 'd', '{json.dumps(info)}'"
    execute(
        path, "INSERT INTO accounts (id, display_name, email, created_at, updated_at) VALUES ('acme', '', '', 0, 0)"
    )
    execute(path, f"INSERT INTO models ({columns}, created_by, created_at, updated_at) VALUES ({values}, '', 0, 0)")
    prepare(path, read_migrations())
    ((upgraded,),) = rows(path, "SELECT info FROM models")
    assert msgspec.json.decode(str(upgraded), type=AnyServedInfo) == INFO


def test_rows_that_are_still_in_the_journal_are_upgraded_and_copied_too(path: Path, tmp_path: Path) -> None:
    prepare(path, [FIRST])
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO a VALUES (7)")
        db.commit()
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for file in tmp_path.glob("hearth.db*"):
            shutil.copy(file, crashed)
    prepare(crashed / path.name, [FIRST, SECOND])
    assert rows(crashed / path.name, "SELECT x FROM b ORDER BY x") == [(2,), (8,)]
    assert rows(crashed / "hearth.db.schema-0001", "SELECT x FROM a ORDER BY x") == [(1,), (7,)]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE b (x INTEGER) STRICT; INSERT INTO a VALUES (2); INSERT INTO nowhere VALUES (1);",
        "CREATE TABLE b (x INTEGER REFERENCES a (y)) STRICT; CREATE UNIQUE INDEX",
    ],
)
def test_a_migration_that_fails_half_way_leaves_nothing_behind(path: Path, sql: str) -> None:
    prepare(path, [FIRST])
    before = schema_of(path)
    with pytest.raises(HearthError):
        prepare(path, [FIRST, Migration(2, sql)])
    assert schema_of(path) == before
    assert rows(path, "PRAGMA user_version") == [(1,)]
    assert rows(path, "SELECT x FROM a") == [(1,)]
    prepare(path, [FIRST, SECOND])


def test_a_migration_that_leaves_a_dangling_reference_is_taken_back(path: Path) -> None:
    parent = Migration(1, "CREATE TABLE a (x INTEGER PRIMARY KEY) STRICT;")
    orphan = Migration(2, "CREATE TABLE b (x INTEGER REFERENCES a (x)) STRICT; INSERT INTO b VALUES (5);")
    prepare(path, [parent])
    with pytest.raises(HearthError, match="dangling"):
        prepare(path, [parent, orphan])
    assert rows(path, "PRAGMA user_version") == [(1,)]


def refusal(path: Path, migrations: list[Migration]) -> str:
    files = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(HearthError) as caught:
        prepare(path, migrations)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert str(path) in caught.value.message
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == files
    return caught.value.message


def test_a_newer_database_is_refused(path: Path) -> None:
    prepare(path, [FIRST, SECOND])
    assert "schema 2, this version of hearth knows 1" in refusal(path, [FIRST])


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    execute(path, "CREATE TABLE theirs (x)")
    assert "another program" in refusal(path, [FIRST])


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    assert "cannot be opened" in refusal(path, [FIRST])


def test_an_empty_file_is_never_taken_for_a_new_database(path: Path) -> None:
    path.touch()
    assert "is empty" in refusal(path, [FIRST])


def test_a_journal_without_its_database_is_never_taken_for_a_new_one(path: Path) -> None:
    path.with_name("hearth.db-wal").write_bytes(b"rows")
    assert "is missing" in refusal(path, [FIRST])


def test_damage_is_found_when_the_database_is_opened(path: Path) -> None:
    prepare(path, [Migration(1, "CREATE TABLE a (x TEXT) STRICT;")])
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("INSERT INTO a VALUES (?)", [(f"{number}" * 100,) for number in range(500)])
    content = bytearray(path.read_bytes())
    page = 4096 * 3
    content[page : page + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert re.search("is damaged|cannot be opened", refusal(path, [FIRST]))


def test_migrations_are_numbered_from_one_without_a_gap(tmp_path: Path) -> None:
    for name in ("0001_a.sql", "0003_c.sql"):
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(HearthError, match=r"0003_c\.sql is not migration 0002"):
        read_migrations(tmp_path)
