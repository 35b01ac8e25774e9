"""Physical KV blocks: who may write where. Owns reference counts, the free list and the digests of block contents.

A freed block keeps its digest, and so its use to the prefix cache, until it is allocated again; the free list hands
out the least valuable block first. Knows nothing of requests or tokens, and never touches KV memory itself.
"""

from collections import Counter
from collections.abc import Iterable

TRASH_BLOCK = 0
"""Padding writes its KV here. Never handed out, so it can also be the head of the free list's ring."""


class BlockPool:
    """`num_blocks` counts the trash block; `num_usable` does not."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 2:
            raise ValueError(f"a pool needs the trash block and one more, not {num_blocks}")
        self.num_usable = num_blocks - 1
        self.num_free = num_blocks - 1
        self.now = 0.0
        """Seconds; set by the owner, who has a clock."""
        self.kept_s = 0.0
        """How long the contents that were forgotten last had been kept unused; 0: none were."""
        self._freed_at = [0.0] * num_blocks
        self._ref_counts = [0] * num_blocks
        self._digests: list[bytes | None] = [None] * num_blocks
        self._block_by_digest: dict[bytes, int] = {}
        # Doubly linked ring of free blocks through TRASH_BLOCK; its successor is reused first.
        self._next: list[int] = [*range(1, num_blocks), TRASH_BLOCK]
        self._previous: list[int] = [num_blocks - 1, *range(num_blocks - 1)]

    def allocate(self) -> int:
        """The least valuable free block, forgetting what it held; the caller has looked at `num_free`."""
        block_id = self._next[TRASH_BLOCK]
        assert block_id != TRASH_BLOCK, "no free block"
        self._unlink(block_id)
        digest = self._digests[block_id]
        if digest is not None:
            del self._block_by_digest[digest]
            self._digests[block_id] = None
            self.kept_s = self.now - self._freed_at[block_id]
        self._ref_counts[block_id] = 1
        return block_id

    def share(self, block_id: int) -> None:
        """One more owner of a published block, be it in use or free. Owners of a shared block only read it."""
        assert self._digests[block_id] is not None, f"block {block_id} is private"
        if self._ref_counts[block_id] == 0:
            self._unlink(block_id)
        self._ref_counts[block_id] += 1

    def free(self, block_id: int) -> None:
        """One owner less. Blocks freed later are reused later; one that holds nothing of use is reused first."""
        assert self._ref_counts[block_id] > 0, f"block {block_id} is already free"
        self._ref_counts[block_id] -= 1
        if self._ref_counts[block_id] == 0:
            self._freed_at[block_id] = self.now
            before = TRASH_BLOCK if self._digests[block_id] is None else self._previous[TRASH_BLOCK]
            self._link_after(before, block_id)

    def publish(self, block_id: int, digest: bytes) -> None:
        """Make a full, computed block findable. The first block of a digest wins; a later one stays private."""
        assert self._ref_counts[block_id] > 0, f"block {block_id} is free"
        if digest not in self._block_by_digest:
            self._block_by_digest[digest] = block_id
            self._digests[block_id] = digest

    def find(self, digest: bytes) -> int | None:
        return self._block_by_digest.get(digest)

    def forget_contents(self) -> None:
        """The memory behind the blocks is gone; only while all of them are free."""
        assert self.num_free == self.num_usable, "blocks are in use"
        self._digests = [None] * len(self._digests)
        self._block_by_digest.clear()

    def is_free(self, block_id: int) -> bool:
        return self._ref_counts[block_id] == 0

    def check_integrity(self, block_tables: Iterable[Iterable[int]]) -> None:
        """Raise AssertionError unless the pool agrees with itself and with every block table in existence."""
        owners = Counter(block_id for block_table in block_tables for block_id in block_table)
        assert owners[TRASH_BLOCK] == 0, "the trash block is in a block table"
        assert self._ref_counts[TRASH_BLOCK] == 0
        for block_id, ref_count in enumerate(self._ref_counts):
            assert ref_count == owners[block_id], f"block {block_id}: {ref_count} references, {owners[block_id]} owners"
            assert ref_count <= 1 or self._digests[block_id] is not None, f"private block {block_id} has two owners"
        free = self._free_block_ids()
        assert len(free) == len(set(free)) == self.num_free
        assert set(free) == {block_id for block_id in range(1, self.num_usable + 1) if owners[block_id] == 0}
        published = {digest: block_id for block_id, digest in enumerate(self._digests) if digest is not None}
        assert published == self._block_by_digest

    def _free_block_ids(self) -> list[int]:
        """In the order of reuse."""
        block_ids = []
        block_id = self._next[TRASH_BLOCK]
        while block_id != TRASH_BLOCK:
            assert self._previous[self._next[block_id]] == block_id
            block_ids.append(block_id)
            block_id = self._next[block_id]
        return block_ids

    def _unlink(self, block_id: int) -> None:
        before, after = self._previous[block_id], self._next[block_id]
        self._next[before], self._previous[after] = after, before
        self.num_free -= 1

    def _link_after(self, before: int, block_id: int) -> None:
        after = self._next[before]
        self._next[before] = self._previous[after] = block_id
        self._previous[block_id], self._next[block_id] = before, after
        self.num_free += 1
