"""Where the audit log ends, written down outside the database: rows that are cut off its end then show.

The file `audit-head` has a line for the newest row, replaced as a whole at most once a second, and before it those
lines that the database did not bear out at some start. These stay, so that `hearth audit verify` fails, until somebody
who knows why removes the file. A loss never keeps the daemon from serving: it is told in the log, in `/metrics` and in
the audit log itself. Only the master key of another data directory does, for rows written with it would prove nothing.
"""

import asyncio
import hmac
import logging
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from appliance.errors import Code, HearthError
from appliance.services import audit
from appliance.store import audit_logs
from appliance.store.audit_chain import read_chain
from appliance.store.audit_logs import BEGINNING, Link, link_hash
from appliance.store.database import Database
from appliance.store.durable_files import write_private

logger = logging.getLogger(__name__)

HEAD_FILE = "audit-head"
WRITE_INTERVAL_S = 1.0
START = "StartDaemon"
LOSS = "ReportAuditLoss"
"""Methods of the rows that a start writes."""
LINES_MAX = 16
"""Of starts that found a loss; later ones are in the log and the audit log only."""
_ROWS_TO_KNOW_A_KEY_BY = 100


class Heads(NamedTuple):
    """What the file says."""

    links: list[Link]
    problem: str = ""
    """Why that is not all that it should say."""


class AuditHead:
    def __init__(self, database: Database, path: Path, audit_key: bytes) -> None:
        """`path`: of the database file; the head's is beside it."""
        self.problems: list[str] = []
        """What the last start found."""
        self._database = database
        self._database_path = path
        self._path = path.with_name(HEAD_FILE)
        self._key = audit_key
        self._kept: list[Link] = []
        self._written: Link | None = None
        self._num_commits = -1

    async def begin(self, account_id: str, message: str) -> None:
        """Before anything is written: raises `failed_precondition` for a wrong key, and tells of what is lost.

        `account_id`: whose audit log tells that the daemon started.
        """
        heads = await asyncio.to_thread(read_heads, self._path, self._key)
        async with self._database.reader() as db:
            newest = await audit_logs.head(db)
        if newest != BEGINNING and not heads.links and not await asyncio.to_thread(self._knows_key, newest):
            raise HearthError(
                Code.FAILED_PRECONDITION,
                f"the audit log of {self._database_path} was written with another master key: put that one back",
                reason="WRONG_MASTER_KEY",
            )
        if newest != BEGINNING and heads.problem:
            self.problems.append(heads.problem)
        for link in heads.links:
            problem = await asyncio.to_thread(self._compare, link, newest)
            if problem:
                self.problems.append(problem)
                self._kept.append(link)
        async with self._database.transaction() as tx:
            for problem in self.problems:
                logger.critical("the audit log is not whole: %s; see hearth audit verify", problem)
                await audit.record_own_act(tx, LOSS, f"accounts/{account_id}", problem)
            await audit.record_own_act(tx, START, f"accounts/{account_id}", message)
        await self.write()

    async def write(self) -> None:
        """Bring the file up to what is committed."""
        num_commits = self._database.num_commits
        if num_commits == self._num_commits:
            return
        async with self._database.reader() as db:
            newest = await audit_logs.head(db)
        if newest != self._written:
            content = "".join(_line(link, self._key) for link in [*self._kept[-LINES_MAX:], newest])
            await asyncio.to_thread(write_private, self._path, content.encode())
            self._written = newest
        self._num_commits = num_commits

    async def close(self) -> None:
        """After the last change. The log keeps a copy of the head, in case that file goes the database's way."""
        try:
            await self.write()
        except (OSError, HearthError) as error:
            logger.error("the head of the audit log is not written: %s", error)
        if self._written is not None:
            logger.info("the audit log ends at %d:%s", self._written.seq, self._written.hash.hex())

    def _knows_key(self, newest: Link) -> bool:
        """One sound link is proof: others may have been tampered with."""
        rows = islice(read_chain(self._database_path, newest.seq - _ROWS_TO_KNOW_A_KEY_BY), _ROWS_TO_KNOW_A_KEY_BY)
        for before, row in pairwise(rows):
            if row.entry is not None and link_hash(self._key, before.link, row.entry) == row.link.hash:
                return True
        first = next(read_chain(self._database_path))
        return first.entry is not None and link_hash(self._key, BEGINNING, first.entry) == first.link.hash

    def _compare(self, expected: Link, newest: Link) -> str:
        if expected.seq > newest.seq:
            return lost_after(newest, expected)
        row = next(read_chain(self._database_path, expected.seq - 1), None)
        is_there = expected == BEGINNING or (row is not None and row.link == expected)
        return "" if is_there else replaced(expected)


def lost_after(newest: Link, expected: Link) -> str:
    return f"rows {newest.seq + 1} to {expected.seq} are missing: the log ends before them"


def replaced(expected: Link) -> str:
    return f"row {expected.seq} is not the one that was told of: rows were lost, and others took their place"


def read_heads(path: Path, audit_key: bytes) -> Heads:
    """Only lines that this key signed; blocking."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return Heads([], f"{HEAD_FILE} is missing, so that nobody knows whether rows are cut off the end")
    except OSError as error:
        return Heads([], f"{HEAD_FILE} cannot be read: {error.strerror}")
    links = [link for line in lines if (link := _read_line(line, audit_key)) is not None]
    is_whole = links and len(links) == len(lines)
    return Heads(links, "" if is_whole else f"{HEAD_FILE} was changed, or written with another master key")


def _line(link: Link, audit_key: bytes) -> str:
    said = f"{link.seq} {link.hash.hex()}"
    return f"{said} {hmac.digest(audit_key, b'head ' + said.encode(), 'sha256').hex()}\n"


def _read_line(line: str, audit_key: bytes) -> Link | None:
    try:
        seq, digest, _ = line.split(" ")
        link = Link(int(seq), bytes.fromhex(digest))
    except ValueError:
        return None
    return link if hmac.compare_digest(_line(link, audit_key).encode(), f"{line}\n".encode()) else None
