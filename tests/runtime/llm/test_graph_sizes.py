"""Every step that may have a graph finds one with room for it."""

import pytest

from runtime.llm.attention_work import WorkCounts
from runtime.llm.graph_sizes import Counts, GraphSize, GraphSizes

SIZES = GraphSizes(max_num_logits=256, max_batch_tokens=2048, tokens_per_tile=32)


def decodes(num_tokens: int, num_programs: int, num_merges: int = 0) -> Counts:
    work = WorkCounts(num_programs, 0, num_merges, num_programs if num_merges else 0, 100)
    return Counts(num_tokens, num_tokens, work)


@pytest.mark.parametrize(
    ("step", "size"),
    [
        (decodes(1, 1), GraphSize(1, 32, False)),
        (decodes(1, 32, 1), GraphSize(1, 32, False)),
        (decodes(3, 3), GraphSize(4, 32, False)),
        (decodes(9, 40, 9), GraphSize(16, 8, False)),
        (decodes(16, 129, 16), GraphSize(16, 32, False)),
        (decodes(100, 100), GraphSize(104, 1, False)),
        (decodes(100, 101, 1), GraphSize(104, 4, False)),
        (decodes(104, 416, 104), GraphSize(104, 4, False)),
        (decodes(100, 416, 100), GraphSize(104, 12, False)),
        (decodes(256, 8192, 256), GraphSize(256, 32, False)),
        (decodes(257, 257), None),
        (Counts(30, 2, WorkCounts(1, 2, 0, 0, 100)), GraphSize(32, 4, True)),
        (Counts(500, 65, WorkCounts(64, 15, 64, 64, 100)), GraphSize(512, 32, True)),
        (Counts(513, 1, WorkCounts(0, 17, 0, 0, 100)), None),
        (Counts(8, 8, WorkCounts(8, 0, 0, 0, 2**21)), None),
    ],
)
def test_the_smallest_that_holds_a_step(step: Counts, size: GraphSize | None) -> None:
    assert SIZES.smallest(step) == size


def test_padding_has_programs_too() -> None:
    """For each token of padding, beside those of the step."""
    full = decodes(97, 104 - 97 + 90)
    assert SIZES.smallest(full) == GraphSize(104, 1, False)
    assert SIZES.smallest(decodes(97, 98)) == GraphSize(104, 4, False)


@pytest.mark.parametrize("num_tokens", range(1, 257))
def test_every_decode_has_a_size_however_long_its_context(num_tokens: int) -> None:
    size = SIZES.smallest(decodes(num_tokens, 32 * num_tokens, num_tokens))
    assert size is not None
    assert num_tokens <= size.num_tokens <= max(2 * num_tokens - 1, num_tokens + 7)


def test_a_small_replica_has_few_sizes() -> None:
    sizes = GraphSizes(max_num_logits=32, max_batch_tokens=24, tokens_per_tile=32)
    assert {size.num_tokens for size in sizes.all()} == {1, 2, 4, 8, 16, 24}
    assert sizes.all()[0] == GraphSize(1, 32, False)
    assert max(sizes.room(size).num_logits for size in sizes.all()) <= 32
