"""The state store: one connection does all writes behind one lock; readers are separate and read-only.

A transaction is acknowledged only when it is on the disk. After the first I/O error on the write path nothing more is
acknowledged (`is_failed`): the kernel may have dropped what it could not write, so only a restart tells what is there.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from urllib.parse import quote

import aiosqlite

from appliance.errors import Code, HearthError
from appliance.store.migration import prepare, read_migrations

logger = logging.getLogger(__name__)

READERS = 4
BUSY_TIMEOUT_S = 5.0
REMEMBERED_MAX = 32
FAILED = "the state store has failed; the daemon starts again"

_SETTINGS_OF_ALL = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA mmap_size = 0",
)
_SETTINGS_OF_WRITER = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = FAST",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 67108864",
)
_SETTINGS_OF_READER = ("PRAGMA query_only = ON",)

# A full disk is not among them: the failing transaction is rolled back whole, and the next may find room.
_LATCHING = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


T = TypeVar("T")
P = ParamSpec("P")

Connection = aiosqlite.Connection
"""What callers hold without knowing the library: they hand it to the functions of the tables."""


class Transaction(NamedTuple):
    connection: aiosqlite.Connection
    now: float
    """The one time of everything written in this transaction."""
    audit_key: bytes
    """Of the audit log's chain."""


class Database:
    def __init__(
        self,
        writer: aiosqlite.Connection,
        readers: list[aiosqlite.Connection],
        connections: AsyncExitStack,
        audit_key: bytes,
        clock: Callable[[], float],
    ) -> None:
        self.failed = asyncio.Event()
        self.num_commits = 0
        """Unchanged: nothing that was read can have changed, for this is the only writer."""
        self._writer = writer
        self._write_lock = asyncio.Lock()
        self._idle_readers: asyncio.Queue[aiosqlite.Connection] = asyncio.LifoQueue()
        self._connections = connections
        self._audit_key = audit_key
        self._clock = clock
        self._remembered: dict[Hashable, tuple[int, Any]] = {}
        """By query and arguments, with the number of commits before it."""
        for reader in readers:
            self._idle_readers.put_nowait(reader)

    @classmethod
    async def open(cls, path: Path, audit_key: bytes, clock: Callable[[], float] = time.time) -> "Database":
        """Create or upgrade the file first; raises `failed_precondition` for one that must not be used."""
        await asyncio.to_thread(prepare, path, read_migrations())
        address = f"file:{quote(str(path))}"
        async with AsyncExitStack() as stack:
            writer = await stack.enter_async_context(_connection(f"{address}?mode=rw", _SETTINGS_OF_WRITER))
            readers = [
                await stack.enter_async_context(_connection(f"{address}?mode=ro", _SETTINGS_OF_READER))
                for _ in range(READERS)
            ]
            return cls(writer, readers, stack.pop_all(), audit_key, clock)

    @property
    def is_failed(self) -> bool:
        return self.failed.is_set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits on leaving, rolls back on any exception; leaving without one means the rows are on the disk.

        Not reentrant: a transaction begun inside one waits for itself.
        """
        async with self._write_lock:
            if self.is_failed:
                raise _unavailable(FAILED)
            is_committed = False
            try:
                await self._writer.execute("BEGIN IMMEDIATE")
                yield Transaction(self._writer, self._clock(), self._audit_key)
                await _finish(self._commit())
                is_committed = True
            except sqlite3.Error as error:
                self._judge(error)
                raise
            finally:
                # Also when cancelled while BEGIN was under way: the writer's thread may have begun already.
                if not is_committed:
                    await _finish(self._roll_back())

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[aiosqlite.Connection]:
        """A read-only connection; each statement sees what was committed when it began."""
        reader = await self._idle_readers.get()
        try:
            yield reader
        finally:
            self._idle_readers.put_nowait(reader)

    async def remembered(
        self, query: Callable[Concatenate[Connection, P], Awaitable[T]], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What `query` reads, or read before if nothing was committed since: for long lists, which callers only read.

        Pages of a list are asked for one after the other, and most follow one another with nothing between them.
        """
        key = query, arguments, tuple(named.items())
        version = self.num_commits
        before = self._remembered.pop(key, None)
        if before is None or before[0] != version:
            async with self.reader() as db:
                before = version, await query(db, *arguments, **named)
        self._remembered[key] = before
        if len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]
        found: T = before[1]
        return found

    async def answers(self) -> bool:
        """Whether a real read comes to its end."""
        try:
            async with self.reader() as db:
                await db.execute_fetchall("SELECT id FROM accounts LIMIT 1")
        except (sqlite3.Error, ValueError):  # aiosqlite's word for a connection that is closed
            return False
        return not self.is_failed

    async def close(self) -> None:
        """Waits for a transaction under way. The writer closes last and so moves the journal into the database."""
        async with self._write_lock:
            if not self.is_failed:
                await self._writer.execute_fetchall("PRAGMA optimize")
            await self._connections.aclose()

    async def _commit(self) -> None:
        """Counted together, so that no cancellation comes between."""
        await self._writer.commit()
        self.num_commits += 1

    async def _roll_back(self) -> None:
        try:
            await self._writer.rollback()
        except sqlite3.Error as error:
            self._fail(error)  # what is still open must not be committed with the next transaction

    def _judge(self, error: sqlite3.Error) -> None:
        """Make an answer of an error for which no caller is to blame, and latch if the disk's state is unknown."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _LATCHING:
            self._fail(error)
            raise _unavailable(FAILED) from error
        if code == sqlite3.SQLITE_FULL:
            raise _unavailable("the disk of the state store is full") from error

    def _fail(self, error: sqlite3.Error) -> None:
        logger.critical("the state store cannot be written any more: %s", error)
        self.failed.set()


@asynccontextmanager
async def _connection(address: str, settings: tuple[str, ...]) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None) as connection:
        connection.row_factory = sqlite3.Row
        for setting in (*_SETTINGS_OF_ALL, *settings):
            await connection.execute_fetchall(setting)
        yield connection


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await all of `work` although the caller is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _unavailable(message: str) -> HearthError:
    return HearthError(Code.UNAVAILABLE, message)
