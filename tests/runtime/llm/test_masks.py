import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.llm.masks import MaskFiller, fill_masks_for_draft
from runtime.llm.request import ScheduledRequest, TokenConstraint
from tests.fakes.hostile_requests import ScatteredConstraint
from tests.fakes.tiny_engine import make_request
from tests.runtime.llm.grammar.walking import END_TOKEN_ID, VOCAB_SIZE, allowed, begin, bits, tokens_of

NUM_WORDS = -(-VOCAB_SIZE // 32)


class Waiting:
    """Fills its mask when it is let go."""

    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        assert self._gate.wait(60)
        mask.fill(-1)
        return True

    def accept(self, token_id: int) -> None:
        raise ValueError(token_id)

    def roll_back(self, num_tokens: int) -> None:
        pass

    is_complete = False


class Broken(Waiting):
    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        raise RuntimeError("broken")


def row(
    constraint: TokenConstraint | None, draft: tuple[int, ...] = (), *, is_sampled: bool = True
) -> ScheduledRequest:
    request = make_request([1, 2, 3])
    request.constraint = constraint
    return ScheduledRequest(request, 1, is_sampled, draft)


def test_masks_follow_a_draft_and_leave_the_constraint_where_it_was() -> None:
    constraint = begin('start: "[" /[0-9]/ "," /[0-9]/ "]"')
    draft = tokens_of("[1,2]")
    before = allowed(constraint)
    masks = fill_masks_for_draft(constraint, draft, NUM_WORDS)
    assert len(masks) == len(draft) + 1
    for mask, token_id in zip(masks, draft, strict=False):
        assert mask is not None
        assert bits(mask) == allowed(constraint)
        constraint.accept(token_id)
    assert masks[-1] is not None
    assert bits(masks[-1]) == [END_TOKEN_ID]
    constraint.roll_back(len(draft))
    assert allowed(constraint) == before


@pytest.mark.parametrize(("text", "num_masks"), [("[x", 2), ("x", 1), ("[1]", 3)])
def test_behind_a_token_that_may_not_come_there_are_no_masks(text: str, num_masks: int) -> None:
    constraint = begin('start: "[" /[0-9]/ "," /[0-9]/ "]"')
    before = allowed(constraint)
    masks = fill_masks_for_draft(constraint, tokens_of(text), NUM_WORDS)
    assert len(masks) == num_masks
    assert all(mask is not None for mask in masks)
    assert allowed(constraint) == before


def test_behind_a_token_at_which_the_constraint_breaks_there_are_no_masks() -> None:
    constraint = ScatteredConstraint(0, breaks_at=2)
    before = allowed(constraint)
    masks = fill_masks_for_draft(constraint, [END_TOKEN_ID] * 4, NUM_WORDS)
    assert [mask is not None for mask in masks] == [True, True]
    assert allowed(constraint) == before


def test_the_end_may_be_drafted() -> None:
    for lark, num_masks in (('start: "a"', 2), ('start: "a" "b"?', 3)):
        constraint = begin(lark)
        masks = fill_masks_for_draft(constraint, [*tokens_of("a"), END_TOKEN_ID, 5], NUM_WORDS)
        assert len(masks) == num_masks
        assert masks[1] is not None
        assert END_TOKEN_ID in bits(masks[1])
        assert tokens_of("a")[0] in allowed(constraint)


def test_the_caller_goes_on_while_masks_are_filled() -> None:
    gate = threading.Event()
    rows = [row(Waiting(gate)), row(None), row(Waiting(gate), is_sampled=False)]
    pending = MaskFiller(VOCAB_SIZE).begin(rows)
    gate.set()
    [mask] = pending.of(rows[0])
    assert mask is not None
    assert len(mask) == NUM_WORDS
    assert pending.of(rows[1]) == [None]
    assert pending.of(rows[2]) == [None]


def test_masks_of_other_rows_may_be_begun_later() -> None:
    gate = threading.Event()
    gate.set()
    rows = [row(Waiting(gate)), row(Broken(gate))]
    filler = MaskFiller(VOCAB_SIZE)
    pending = filler.begin(rows[:1])
    assert pending.of(rows[1]) == [None]
    pending.include(filler.begin(rows[1:]))
    assert pending.of(rows[0])[0] is not None
    assert str(pending.failure_of(rows[1])) == "broken"


def test_a_constraint_that_breaks_fails_its_own_row() -> None:
    gate = threading.Event()
    gate.set()
    rows = [row(Broken(gate), (4, 5)), row(Waiting(gate))]
    pending = MaskFiller(VOCAB_SIZE).begin(rows)
    assert pending.of(rows[0]) == [None, None, None]
    assert str(pending.failure_of(rows[0])) == "broken"
    assert pending.failure_of(rows[1]) is None


def test_a_panic_of_native_code_is_an_exception_like_any() -> None:
    class Panic(BaseException):
        pass

    class Panicking(Broken):
        def fill_mask(self, mask: NDArray[np.int32]) -> Any:
            raise Panic

    rows = [row(Panicking(threading.Event()))]
    assert isinstance(MaskFiller(VOCAB_SIZE).begin(rows).failure_of(rows[0]), RuntimeError)
