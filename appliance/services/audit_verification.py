"""Whether the audit log is as it was written: every row linked to the one before, and none cut off the end.

Reads the files alone, so that it needs no daemon and disturbs none. Blocking; its memory does not grow with the log.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.services.audit_head import HEAD_FILE, LOSS, lost_after, read_heads, replaced
from appliance.store.audit_chain import ChainedRow, UnreadableLog, read_chain
from appliance.store.audit_logs import BEGINNING, Link, link_hash


class Verdict(NamedTuple):
    last: Link
    """The newest row up to which everything is sound."""
    problem: str = ""
    """What is wrong first; empty: nothing."""
    seq: int | None = None
    """Of the first row that is wrong or missing, where that is known."""
    losses: Sequence[int] = ()
    """Rows in which a start of the daemon tells of a loss, which a person has taken note of since."""


class _Broken(Exception):
    def __init__(self, seq: int | None, problem: str) -> None:
        self.seq = seq
        self.problem = problem


def verify_log(database: Path, audit_key: bytes, kept_elsewhere: Link | None = None) -> Verdict:
    """`kept_elsewhere`: a head that somebody wrote down, from the daemon's log for example."""
    heads = read_heads(database.with_name(HEAD_FILE), audit_key)  # first: the rows that it tells of are there already
    walk = _Walk(database, audit_key, [*heads.links, *([kept_elsewhere] if kept_elsewhere else [])])
    try:
        walk.to_the_end()
        walk.check_told()
        if heads.problem and walk.before != BEGINNING:
            raise _Broken(None, f"{heads.problem}; the rows up to {walk.before.seq} are sound")
    except _Broken as broken:
        return Verdict(walk.before, broken.problem, broken.seq)
    except UnreadableLog as error:
        seq = walk.before.seq + 1
        return Verdict(walk.before, f"row {seq} and those after it cannot be read: {error}", seq)
    return Verdict(walk.before, losses=list(walk.losses))


class _Walk:
    def __init__(self, database: Path, audit_key: bytes, told: Sequence[Link]) -> None:
        """`told`: links that were written down outside the database."""
        self.before = BEGINNING
        self.losses: dict[int, str] = {}
        self._database = database
        self._key = audit_key
        self._told = told
        self._found = {BEGINNING}

    def to_the_end(self) -> None:
        told_of = {link.seq for link in self._told}
        for row in read_chain(self._database):
            self._check(row)
            if row.entry is not None and row.entry.method == LOSS:
                self.losses[row.link.seq] = row.entry.message
            if row.link.seq in told_of:
                self._found.add(row.link)
            self.before = row.link

    def check_told(self) -> None:
        """Whether all that was told of is there; a loss that a start has reported is named by its report."""
        for link in self._told:
            if link in self._found:
                continue
            if self.losses:
                raise _Broken(*next(iter(self.losses.items())))
            if link.seq > self.before.seq:
                raise _Broken(self.before.seq + 1, lost_after(self.before, link))
            raise _Broken(link.seq, replaced(link))

    def _check(self, row: ChainedRow) -> None:
        seq = self.before.seq + 1
        if row.link.seq != seq:
            last = row.link.seq - 1
            raise _Broken(seq, f"row {seq} is missing" if seq == last else f"rows {seq} to {last} are missing")
        if row.entry is None or link_hash(self._key, self.before, row.entry) != row.link.hash:
            raise _Broken(seq, self._how_broken(row))

    def _how_broken(self, row: ChainedRow) -> str:
        if row.link.seq == 1 and not self._fits_key():
            return "no row fits this master key: it is another data directory's, or the log was written anew"
        if self._was_elsewhere(row):
            return f"row {row.link.seq} stood elsewhere: rows were put in another order"
        return f"row {row.link.seq} was changed, or rows before it are gone"

    def _was_elsewhere(self, moved: ChainedRow) -> bool:
        """Whether it follows some row, that one under its present number or under the one that `moved` has now."""
        if moved.entry is None:
            return False
        return any(
            link_hash(self._key, Link(seq, row.link.hash), moved.entry) == moved.link.hash
            for row in read_chain(self._database)
            for seq in (row.link.seq, moved.link.seq)
        )

    def _fits_key(self) -> bool:
        before = BEGINNING
        for row in read_chain(self._database):
            if row.entry is not None and link_hash(self._key, before, row.entry) == row.link.hash:
                return True
            before = row.link
        return False
