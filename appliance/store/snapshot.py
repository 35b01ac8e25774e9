"""A consistent copy of the database while the daemon writes it, and which folders beside it belong to whom.

Blocking. The database is opened read-only: with the SQLite of many systems a second connection that wrote or
checkpointed could damage it.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from appliance.errors import Code, HearthError
from appliance.store.database import Transaction
from appliance.store.migration import check_database

FOLDERS = ("models", "datasets")
"""Tables of what has files, and the folders of the data directory that hold these."""
HAS_TABLE = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"
OWNERS = "SELECT account_id, id, directory, state = 'READY' AS is_ready FROM {table} ORDER BY account_id, id"
MARK_INCOMPLETE = {
    "models": """
UPDATE models SET state = 'UPLOADING', status_message = ?, updated_at = ?, info = NULL, addon_info = NULL,
    preparations = '{}'
WHERE account_id = ? AND id = ?
""",
    "datasets": """
UPDATE datasets SET state = 'UPLOADING', status_message = ?, updated_at = ? WHERE account_id = ? AND id = ?
""",
}


class Owner(NamedTuple):
    """A row, and its folder."""

    folder: str
    account_id: str
    id: str
    directory: str
    is_ready: bool
    """Its files are complete, or should be."""

    @property
    def name(self) -> str:
        return f"accounts/{self.account_id}/{self.folder}/{self.id}"


def copy_database(source: Path, copy: Path) -> None:
    """All that was committed when this began; raises `failed_precondition` when it cannot be read."""
    try:
        with closing(open_read_only(source)) as live, closing(sqlite3.connect(copy)) as target:
            live.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # all in this one file, whoever opens it
    except sqlite3.Error as error:
        raise HearthError(Code.FAILED_PRECONDITION, f"cannot copy the database {source}: {error}") from error


def check_copy(copy: Path, newest_schema: int) -> int:
    """The schema version; raises `failed_precondition` for what is damaged, not ours, or newer than this program."""
    try:
        with closing(open_read_only(copy)) as db:
            return check_database(copy, db, newest_schema)
    except sqlite3.Error as error:
        raise HearthError(Code.FAILED_PRECONDITION, f"the database {copy} cannot be read: {error}") from error


def list_owners(copy: Path) -> list[Owner]:
    """Of a sound copy, whatever its schema."""
    with closing(open_read_only(copy)) as db:
        return [
            Owner(table, account_id, resource_id, directory, bool(is_ready))
            for table in FOLDERS
            if db.execute(HAS_TABLE, (table,)).fetchone()[0]
            for account_id, resource_id, directory, is_ready in db.execute(OWNERS.format(table=table))
        ]


async def mark_incomplete(tx: Transaction, owner: Owner, message: str) -> None:
    """As it was before its files were inspected: they have to be uploaded again."""
    await tx.connection.execute(MARK_INCOMPLETE[owner.folder], (message, tx.now, owner.account_id, owner.id))


def open_read_only(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    for setting in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
        db.execute(f"PRAGMA {setting}")
    return db
