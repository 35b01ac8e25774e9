from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.llm.sampling.token_counts import TokenCounts
from runtime.submission import SamplingParams

REPETITION = SamplingParams(repetition_penalty=1.2)
token_ids = st.lists(st.integers(0, 200), max_size=300)


def build(sampling: SamplingParams, prompt: list[int]) -> TokenCounts:
    counts = TokenCounts.of(sampling, prompt)
    assert counts is not None
    return counts


def counted(counts: TokenCounts, draft: list[int] | None = None) -> dict[int, float]:
    found = counts.output(draft or [])
    assert len(set(found.token_ids.tolist())) == len(found.token_ids)
    return dict(zip(found.token_ids.tolist(), found.counts.tolist(), strict=True))


@given(prompt=token_ids, output=token_ids, cuts=st.lists(st.integers(0, 300)), draft=st.lists(st.integers(0, 200)))
def test_counts_are_those_of_the_whole_output_however_it_grew(
    prompt: list[int], output: list[int], cuts: list[int], draft: list[int]
) -> None:
    counts = build(REPETITION, prompt)
    for cut in [*sorted(cuts), len(output)]:
        counts.catch_up(output[:cut])
        assert counted(counts) == Counter(output[:cut])
    assert counts.prompt_token_ids.tolist() == sorted(set(prompt))
    assert counted(counts, draft) == Counter(output + draft)
    assert counted(counts) == Counter(output), "a draft is only supposed"


@pytest.mark.parametrize(
    ("sampling", "is_kept", "looks_at_prompt"),
    [
        (SamplingParams(), False, False),
        (SamplingParams(frequency_penalty=-0.1), True, False),
        (SamplingParams(presence_penalty=0.1), True, False),
        (REPETITION, True, True),
    ],
)
def test_only_what_a_penalty_looks_at_is_kept(sampling: SamplingParams, is_kept: bool, looks_at_prompt: bool) -> None:
    counts = TokenCounts.of(sampling, [3, 1, 3])
    assert (counts is not None) == is_kept
    if counts is not None:
        assert counts.prompt_token_ids.tolist() == ([1, 3] if looks_at_prompt else [])


def test_choices_share_the_prompt_and_nothing_else() -> None:
    first = build(REPETITION, [5, 6])
    second = first.fork()
    first.catch_up([7])
    assert counted(second) == {}
    assert np.shares_memory(first.prompt_token_ids, second.prompt_token_ids)
