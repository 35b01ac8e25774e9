"""The audit log as a file that somebody may have changed: its rows in order, whatever they hold by now.

Blocking and read-only, in pieces of bounded size, also while the daemon writes. Judges nothing:
`services/audit_verification.py` does.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from appliance.domain import AuditEntry
from appliance.store.audit_logs import COLUMNS, Link, read_entry

ROWS_AT_ONCE = 2000
READ = f"SELECT seq, hash, {COLUMNS} FROM audit_logs WHERE seq > ? ORDER BY seq LIMIT {ROWS_AT_ONCE}"
HAS_TABLE = "SELECT count(*) FROM sqlite_schema WHERE name = 'audit_logs'"
HAS_ROWS = "SELECT count(*) FROM (SELECT seq FROM audit_logs LIMIT 1)"


class ChainedRow(NamedTuple):
    link: Link
    entry: AuditEntry | None
    """None: what is there is no entry."""


class UnreadableLog(Exception):
    """What is there is no database, or is damaged, or has no audit log."""


def read_chain(database: Path, after_seq: int = 0) -> Iterator[ChainedRow]:
    """Raises UnreadableLog when it comes to what cannot be read."""
    try:
        with closing(_connect(database)) as db:
            while rows := db.execute(READ, (after_seq,)).fetchall():
                yield from map(_read, rows)
                after_seq = rows[-1]["seq"]
    except sqlite3.Error as error:
        raise UnreadableLog(str(error)) from error


def has_rows(database: Path) -> bool:
    """Whether anything was ever written here under a master key; also of a database that is not there yet."""
    if not database.exists():
        return False
    try:
        with closing(_connect(database)) as db:
            return bool(db.execute(HAS_TABLE).fetchone()[0] and db.execute(HAS_ROWS).fetchone()[0])
    except sqlite3.Error:
        return False  # whoever opens it next says what is wrong with it


def _connect(database: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, isolation_level=None)
    db.row_factory = sqlite3.Row
    for setting in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
        db.execute(f"PRAGMA {setting}")
    return db


def _read(row: sqlite3.Row) -> ChainedRow:
    try:
        entry = read_entry(dict(row), row["fields"])
    except (msgspec.DecodeError, TypeError):
        entry = None
    return ChainedRow(Link(row["seq"], row["hash"]), entry)
