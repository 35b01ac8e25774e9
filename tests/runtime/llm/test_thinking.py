import random

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.llm.masks import fill_masks_for_draft
from runtime.llm.thinking import AfterThinking
from tests.runtime.llm.grammar.walking import bits

NUM_WORDS = 2
BEGIN, END, STOP = [40, 41], [50, 51], 9
EVERY_TOKEN = list(range(32 * NUM_WORDS))


class Spelling:
    """Wants these tokens, one after the other."""

    def __init__(self, *token_ids: int) -> None:
        self._token_ids = token_ids
        self._num_accepted = 0

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        mask.fill(0)
        if not self.is_complete:
            token_id = self._token_ids[self._num_accepted]
            mask[token_id // 32] = 1 << token_id % 32
        return True

    def accept(self, token_id: int) -> None:
        if self.is_complete or token_id != self._token_ids[self._num_accepted]:
            raise ValueError(token_id)
        self._num_accepted += 1

    def roll_back(self, num_tokens: int) -> None:
        self._num_accepted -= num_tokens

    @property
    def is_complete(self) -> bool:
        return self._num_accepted == len(self._token_ids)


def allowed(constraint: AfterThinking) -> list[int]:
    mask = np.full(NUM_WORDS, 7, dtype=np.int32)
    return bits(mask) if constraint.fill_mask(mask) else EVERY_TOKEN


def feed(constraint: AfterThinking, *token_ids: int) -> None:
    for token_id in token_ids:
        assert token_id in allowed(constraint)
        constraint.accept(token_id)


def test_the_answer_begins_where_the_thoughts_have_ended() -> None:
    constraint = AfterThinking(END, Spelling(1, 2))
    feed(constraint, 3, 50, 4, 51, 50)
    assert allowed(constraint) == EVERY_TOKEN
    feed(constraint, 51)
    assert allowed(constraint) == [1]
    feed(constraint, 1)
    assert not constraint.is_complete
    feed(constraint, 2)
    assert constraint.is_complete


def test_thoughts_may_not_end_with_the_answer() -> None:
    constraint = AfterThinking(END, Spelling(1), stop_token_ids=[STOP, 63])
    assert allowed(constraint) == [token_id for token_id in EVERY_TOKEN if token_id not in (STOP, 63)]
    feed(constraint, *END)
    assert allowed(constraint) == [1]


def test_a_model_that_may_think_may_also_answer_at_once() -> None:
    thinking = AfterThinking(END, Spelling(1, 2), begin_token_ids=BEGIN)
    assert allowed(thinking) == [1, 40]
    feed(thinking, 40)
    assert allowed(thinking) == [41]
    feed(thinking, 41, 5, *END)
    assert allowed(thinking) == [1]
    answering = AfterThinking(END, Spelling(1, 2), begin_token_ids=BEGIN)
    feed(answering, 1)
    assert allowed(answering) == [2]
    feed(answering, 2)
    assert answering.is_complete


def test_without_an_answer_to_hold_to_everything_may_come() -> None:
    constraint = AfterThinking(END, begin_token_ids=BEGIN, max_thoughts=1)
    feed(constraint, 3, *BEGIN, 4, *BEGIN, 5, 6)
    assert not constraint.is_complete


def test_the_end_is_forced_when_the_cap_is_reached() -> None:
    constraint = AfterThinking(END, max_thoughts=3)
    feed(constraint, 3, 4, 5)
    assert allowed(constraint) == [50]
    feed(constraint, 50)
    assert allowed(constraint) == [51]
    feed(constraint, 51)
    assert allowed(constraint) == EVERY_TOKEN


def test_what_the_model_wrote_of_the_end_is_not_written_again() -> None:
    constraint = AfterThinking(END, max_thoughts=2)
    feed(constraint, 3, 50)
    assert allowed(constraint) == [51]


def test_no_thoughts_at_all_may_be_the_cap() -> None:
    constraint = AfterThinking(END, max_thoughts=0)
    assert allowed(constraint) == [50]
    constraint = AfterThinking(END, begin_token_ids=BEGIN, max_thoughts=0)
    feed(constraint, *BEGIN)
    assert allowed(constraint) == [50]


def test_an_end_that_came_by_itself_is_not_forced() -> None:
    constraint = AfterThinking(END, max_thoughts=2)
    feed(constraint, 3, *END, 4, 5, 6)
    assert allowed(constraint) == EVERY_TOKEN


@pytest.mark.parametrize("begin", [[], BEGIN])
@pytest.mark.parametrize("max_thoughts", [None, 0, 2])
def test_what_is_rolled_back_never_was(begin: list[int], max_thoughts: int | None) -> None:
    def make() -> AfterThinking:
        return AfterThinking(END, Spelling(1, 2, 3), begin_token_ids=begin, max_thoughts=max_thoughts)

    for seed in range(30):
        rng = random.Random(seed)
        constraint, accepted = make(), list[int]()
        for _ in range(40):
            if accepted and rng.random() < 0.4:
                num_tokens = rng.randint(1, min(4, len(accepted)))
                constraint.roll_back(num_tokens)
                del accepted[-num_tokens:]
            choices = allowed(constraint)
            if choices:
                likely = [token_id for token_id in choices if token_id in (1, 2, 3, *BEGIN, *END)]
                accepted.append(rng.choice(likely or choices))
                constraint.accept(accepted[-1])
            fresh = make()
            feed(fresh, *accepted)
            assert allowed(fresh) == allowed(constraint), seed
            assert fresh.is_complete == constraint.is_complete


def test_a_token_that_is_refused_changes_nothing() -> None:
    constraint = AfterThinking(END, Spelling(1), begin_token_ids=BEGIN, max_thoughts=1)
    with pytest.raises(ValueError, match="3"):
        constraint.accept(3)
    feed(constraint, *BEGIN, 7)
    with pytest.raises(ValueError, match="no thoughts left"):
        constraint.accept(8)
    feed(constraint, *END, 1)


def test_drafts_may_lead_through_the_end_of_the_thoughts() -> None:
    constraint = AfterThinking(END, Spelling(1, 2), max_thoughts=5)
    masks = fill_masks_for_draft(constraint, [3, *END, 1], NUM_WORDS)
    assert [mask is not None and bits(mask) for mask in masks] == [False, False, False, [1], [2]]
    assert allowed(constraint) == EVERY_TOKEN


def test_thoughts_without_an_end_are_refused() -> None:
    with pytest.raises(ValueError, match="must have an end"):
        AfterThinking([])
