"""The audit_logs table: a chain of keyed hashes, so that a row that is changed, moved or missing shows.

Rows are appended within the transaction of the change they tell of, and nothing here changes or removes one. The log
may hold millions of them, so it is read in pieces.
"""

import hmac
from collections.abc import Sequence
from typing import NamedTuple

import aiosqlite
import msgspec

from appliance.domain import AuditEntry
from appliance.store.database import Transaction

_FIELDS = AuditEntry.__struct_fields__
COLUMNS = ", ".join(f"audit_logs.{field}" for field in _FIELDS)
INSERT = f"INSERT INTO audit_logs (seq, {', '.join(_FIELDS)}, hash) VALUES ({', '.join('?' * (len(_FIELDS) + 2))})"
HEAD = "SELECT seq, hash FROM audit_logs ORDER BY seq DESC LIMIT 1"

_FROM = "FROM audit_logs LEFT JOIN users ON users.account_id = user_account_id AND users.id = user_id"
_WHERE = "audit_logs.account_id = :account_id AND (:email IN ('', user_id) OR users.email = :email COLLATE NOCASE)"
_LIST = f"SELECT seq, coalesce(users.email, '') AS email, {COLUMNS} {_FROM} WHERE {_WHERE}"
LIST_NEWEST_FIRST = f"""{_LIST}
AND at >= :from_at AND at <= :at AND (at < :at OR seq < :seq) ORDER BY at DESC, seq DESC LIMIT :limit
"""
LIST_OLDEST_FIRST = f"""{_LIST}
AND at < :until_at AND at >= :at AND (at > :at OR seq > :seq) ORDER BY at, seq LIMIT :limit
"""
COUNT = f"SELECT count(*) {_FROM} WHERE {_WHERE} AND at >= :from_at AND at < :until_at"
COUNT_OF_ALL = """
SELECT count(*) FROM audit_logs WHERE account_id = :account_id AND at >= :from_at AND at < :until_at
"""


class Link(msgspec.Struct, frozen=True):
    """A row's place in the chain."""

    seq: int
    hash: bytes


class LoggedEntry(NamedTuple):
    seq: int
    email: str
    """Today's, of who did it; empty where there is none."""
    entry: AuditEntry


class Place(NamedTuple):
    """Of a row in the order of time."""

    at: float
    seq: int


class AuditSearch(NamedTuple):
    account_id: str
    from_at: float
    until_at: float
    """Rows of this moment are not among them."""
    email: str
    """Or a user id; empty: everybody's."""
    is_newest_first: bool


BEGINNING = Link(0, bytes(32))
"""Before the first row."""


async def append(tx: Transaction, entry: AuditEntry) -> Link:
    before = await head(tx.connection)
    link = Link(before.seq + 1, link_hash(tx.audit_key, before, entry))
    values = {**msgspec.structs.asdict(entry), "fields": msgspec.json.encode(entry.fields).decode()}
    await tx.connection.execute(INSERT, (link.seq, *values.values(), link.hash))
    return link


async def head(db: aiosqlite.Connection) -> Link:
    """The newest row's."""
    for row in await db.execute_fetchall(HEAD):
        return Link(row["seq"], row["hash"])
    return BEGINNING


async def search(
    db: aiosqlite.Connection, asked: AuditSearch, after: Place | None, limit: int
) -> Sequence[LoggedEntry]:
    """At most `limit` of them, those that follow the place `after`."""
    beginning = Place(asked.until_at if asked.is_newest_first else asked.from_at, 0)
    statement = LIST_NEWEST_FIRST if asked.is_newest_first else LIST_OLDEST_FIRST
    values = {**asked._asdict(), **(after or beginning)._asdict(), "limit": limit}
    return [_read(row) for row in await db.execute_fetchall(statement, values)]


async def count(db: aiosqlite.Connection, asked: AuditSearch) -> int:
    """How many there are; of everybody's from the index alone."""
    rows = await db.execute_fetchall(COUNT if asked.email else COUNT_OF_ALL, asked._asdict())
    return int(next(iter(rows))[0])


def link_hash(audit_key: bytes, before: Link, entry: AuditEntry) -> bytes:
    """HMAC-SHA256 over the link before and all of this row."""
    content = msgspec.msgpack.encode((before.seq + 1, before.hash, msgspec.structs.astuple(entry)))
    return hmac.digest(audit_key, content, "sha256")


def read_entry(values: dict[str, object], fields: str) -> AuditEntry:
    """`values`: of the columns named as the struct's fields; `fields`: that column, which holds JSON."""
    return msgspec.convert({**values, "fields": msgspec.json.decode(fields)}, AuditEntry)


def _read(row: aiosqlite.Row) -> LoggedEntry:
    return LoggedEntry(row["seq"], row["email"], read_entry(dict(row), row["fields"]))
