from hypothesis import given
from hypothesis import strategies as st

from runtime.llm.speculation.token_index import TokenIndex

tokens = st.lists(st.integers(0, 3), max_size=40)


def slow_find(row: list[int], suffix: list[int], before: int) -> int | None:
    """The latest position behind the longest match, found by trying all."""
    best, longest = None, 1
    for stop in range(2, min(len(row) + 1, before)):
        length = 0
        while length < min(len(suffix), stop) and row[stop - length - 1] == suffix[-length - 1]:
            length += 1
        if length >= 2 and length >= longest:
            best, longest = stop, length
    return best


@given(tokens, st.lists(st.integers(0, 3), max_size=5), st.integers(0, 41))
def test_the_latest_of_the_longest_matches_is_found(row: list[int], suffix: list[int], before: int) -> None:
    assert TokenIndex(row[:30]).find(suffix, before) == slow_find(row[:30], suffix, before)


@given(tokens, st.integers(0, 40), st.lists(st.integers(0, 3), min_size=2, max_size=5))
def test_it_grows_with_its_row(row: list[int], split: int, suffix: list[int]) -> None:
    index = TokenIndex(row[:split])
    index.extend(row[split:])
    assert index.token_ids == row
    assert index.find(suffix) == TokenIndex(row).find(suffix)


def test_a_pair_that_stands_everywhere_costs_no_more_than_some_looks() -> None:
    index = TokenIndex([0] * 100_000)
    for _ in range(1000):
        assert index.find([1, 0, 0]) == 100_000
