"""Which SQLite this program was given, and what is known of it."""

import sqlite3

WAL_RESET_FIXED = (3, 51, 3)


def sqlite_version() -> str:
    return sqlite3.sqlite_version


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """With it a second connection that writes or checkpoints may damage a database; Hearth has only one that does."""
    return version < WAL_RESET_FIXED
