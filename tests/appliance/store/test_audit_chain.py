import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.domain import AuditEntry
from appliance.store import audit_chain, audit_logs
from appliance.store.audit_chain import UnreadableLog, has_rows, read_chain
from appliance.store.database import Database


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        account_id="acme",
        at=float(number),
        user_account_id="acme",
        user_id="alice",
        key_id="k",
        method="CreateModel",
        resource=f"accounts/acme/models/m{number}",
        fields=["kind"],
    )


async def write(database: Database, num_rows: int) -> list[audit_logs.Link]:
    async with database.transaction() as tx:
        return [await audit_logs.append(tx, entry(number)) for number in range(1, num_rows + 1)]


async def test_all_rows_are_read_in_order_and_as_written_in_pieces(database: Database, tmp_path: Path) -> None:
    links = await write(database, audit_chain.ROWS_AT_ONCE + 5)
    found = list(read_chain(tmp_path / "hearth.db"))
    assert [row.link for row in found] == links
    assert [row.entry for row in found[:3]] == [entry(1), entry(2), entry(3)]
    assert next(read_chain(tmp_path / "hearth.db", 7)).link.seq == 8


async def test_what_is_no_entry_any_more_is_read_as_none(database: Database, tmp_path: Path) -> None:
    await write(database, 2)
    with closing(sqlite3.connect(tmp_path / "hearth.db", isolation_level=None)) as db:
        db.execute("DROP TRIGGER audit_logs_never_change")
        db.execute("UPDATE audit_logs SET fields = '{}' WHERE seq = 2")
    assert [row.entry is None for row in read_chain(tmp_path / "hearth.db")] == [False, True]


def test_what_is_no_database_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "hearth.db").write_bytes(b"no database" * 1000)
    with pytest.raises(UnreadableLog):
        list(read_chain(tmp_path / "hearth.db"))
    with pytest.raises(UnreadableLog):
        list(read_chain(tmp_path / "absent.db"))


async def test_whether_anything_was_written(database: Database, tmp_path: Path) -> None:
    assert not has_rows(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
    assert not has_rows(tmp_path / "hearth.db")
    await write(database, 1)
    assert has_rows(tmp_path / "hearth.db")
