import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.llm.block_pool import TRASH_BLOCK, BlockPool


def digest(name: str) -> bytes:
    return name.encode()


def published(pool: BlockPool, name: str) -> int:
    block_id = pool.allocate()
    pool.publish(block_id, digest(name))
    return block_id


def test_the_trash_block_is_never_handed_out() -> None:
    pool = BlockPool(4)
    assert pool.num_usable == pool.num_free == 3
    assert TRASH_BLOCK not in [pool.allocate() for _ in range(3)]
    with pytest.raises(AssertionError, match="no free block"):
        pool.allocate()


def test_a_freed_block_keeps_its_digest_until_it_is_reused() -> None:
    pool = BlockPool(2)
    block_id = published(pool, "a")
    pool.free(block_id)
    assert pool.find(digest("a")) == block_id
    pool.share(block_id)
    assert pool.num_free == 0
    pool.free(block_id)
    assert pool.allocate() == block_id
    assert pool.find(digest("a")) is None


def test_it_tells_for_how_long_what_was_forgotten_had_been_kept() -> None:
    pool = BlockPool(2)
    block_id = published(pool, "a")
    pool.now = 10.0
    pool.free(block_id)
    pool.now = 17.5
    assert pool.kept_s == 0.0, "nothing was forgotten"
    pool.allocate()
    assert pool.kept_s == 7.5


def test_contents_are_forgotten_only_while_nobody_has_a_block() -> None:
    pool = BlockPool(3)
    block_id = published(pool, "a")
    with pytest.raises(AssertionError):
        pool.forget_contents()
    pool.free(block_id)
    pool.forget_contents()
    assert pool.find(digest("a")) is None
    pool.check_integrity([])


def test_a_shared_block_is_free_when_its_last_owner_leaves() -> None:
    pool = BlockPool(3)
    block_id = published(pool, "a")
    pool.share(block_id)
    pool.free(block_id)
    assert not pool.is_free(block_id)
    pool.free(block_id)
    assert pool.is_free(block_id)
    with pytest.raises(AssertionError, match="already free"):
        pool.free(block_id)


def test_blocks_are_reused_in_the_order_they_were_freed_and_worthless_ones_first() -> None:
    pool = BlockPool(5)
    first, second = published(pool, "first"), published(pool, "second")
    private, also_private = pool.allocate(), pool.allocate()
    for block_id in (second, private, first, also_private):
        pool.free(block_id)
    assert {pool.allocate(), pool.allocate()} == {private, also_private}
    assert [pool.allocate(), pool.allocate()] == [second, first]


def test_the_first_block_of_a_digest_wins_and_a_duplicate_stays_private() -> None:
    pool = BlockPool(4)
    first = published(pool, "a")
    duplicate = published(pool, "a")
    assert pool.find(digest("a")) == first
    with pytest.raises(AssertionError, match="private"):
        pool.share(duplicate)
    pool.free(duplicate)
    assert pool.find(digest("a")) == first


def test_integrity_check_finds_a_block_in_two_tables_and_a_leak() -> None:
    pool = BlockPool(4)
    block_id = pool.allocate()
    pool.check_integrity([[block_id]])
    with pytest.raises(AssertionError, match="1 references, 2 owners"):
        pool.check_integrity([[block_id], [block_id]])
    with pytest.raises(AssertionError, match="1 references, 0 owners"):
        pool.check_integrity([])
    with pytest.raises(AssertionError, match="trash"):
        pool.check_integrity([[block_id], [TRASH_BLOCK]])


class BlockPoolMachine(RuleBasedStateMachine):
    """Random owners; the pool must agree with a plain list of what each holds."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(6)
        self.owned: list[int] = []

    @precondition(lambda self: self.pool.num_free)
    @rule()
    def allocate(self) -> None:
        block_id = self.pool.allocate()
        assert block_id not in self.owned
        self.owned.append(block_id)

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        block_id = data.draw(st.sampled_from(self.owned))
        self.owned.remove(block_id)
        self.pool.free(block_id)
        assert self.pool.is_free(block_id) == (block_id not in self.owned)

    @precondition(lambda self: self.owned)
    @rule(data=st.data(), name=st.sampled_from("abcdefgh"))
    def publish(self, data: st.DataObject, name: str) -> None:
        block_id = data.draw(st.sampled_from(self.owned))
        if block_id not in [self.pool.find(digest(other)) for other in "abcdefgh"]:
            self.pool.publish(block_id, digest(name))

    @rule(name=st.sampled_from("abcdefgh"))
    def share(self, name: str) -> None:
        block_id = self.pool.find(digest(name))
        if block_id is not None:
            self.pool.share(block_id)
            self.owned.append(block_id)

    @invariant()
    def pool_agrees(self) -> None:
        self.pool.check_integrity([[block_id] for block_id in self.owned])


BlockPoolMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestBlockPoolMachine = BlockPoolMachine.TestCase
