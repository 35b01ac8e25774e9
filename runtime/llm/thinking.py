"""Constraints around a model's thoughts: an answer's grammar that begins behind them, and a cap on their length.

Where thoughts end is told by a row of token ids, which comes from the model itself or, when the cap is reached, is
forced upon it. Knows no text and no parser.
"""

from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.llm.request import TokenConstraint


class _Phase(Enum):
    BEGINNING = auto()  # thoughts may begin here, or the answer
    THINKING = auto()
    CLOSING = auto()  # the cap is reached; the end is being written
    ANSWERING = auto()


class _State(NamedTuple):
    phase: _Phase
    num_thoughts: int = 0
    """Tokens of thought so far."""
    num_matched: int = 0
    """Tokens of the row that begins or ends the thoughts."""


class AfterThinking:
    """Everything may come until the thoughts have ended; from then on `answer` decides, if there is one.

    `begin_token_ids`: what the model itself writes ahead of its thoughts, if it thinks at all; empty: the prompt has
    begun them. `max_thoughts` caps the tokens between begin and end. `stop_token_ids` may not come before the answer.
    """

    def __init__(
        self,
        end_token_ids: Sequence[int],
        answer: TokenConstraint | None = None,
        *,
        begin_token_ids: Sequence[int] = (),
        max_thoughts: int | None = None,
        stop_token_ids: Collection[int] = (),
    ) -> None:
        if not end_token_ids:
            raise ValueError("thoughts must have an end")
        self._begin = list(begin_token_ids)
        self._end = list(end_token_ids)
        self._answer = answer
        self._max_thoughts = max_thoughts
        self._stop_token_ids = list(stop_token_ids)
        self._states = [self._thinking(0, 0) if not self._begin else _State(_Phase.BEGINNING)]
        """After each token before the answer, the first one before any."""
        self._num_answered = 0
        self._tail: list[int] = []
        """The tokens that led through `_states`."""

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        state = self._states[-1]
        match state.phase:
            case _Phase.ANSWERING:
                return self._answer is not None and self._answer.fill_mask(mask)
            case _Phase.CLOSING:
                mask.fill(0)
                _allow(mask, self._end[state.num_matched])
            case _Phase.BEGINNING if state.num_matched:
                mask.fill(0)
                _allow(mask, self._begin[state.num_matched])
            case _Phase.BEGINNING:
                if self._answer is None or not self._answer.fill_mask(mask):
                    return False
                _allow(mask, self._begin[0])
            case _Phase.THINKING:
                if not self._stop_token_ids:
                    return False
                mask.fill(-1)
                for token_id in self._stop_token_ids:
                    _forbid(mask, token_id)
        return True

    def accept(self, token_id: int) -> None:
        state = self._states[-1]
        if state.phase is _Phase.ANSWERING:
            self._accept_answer(token_id)
            return
        match state.phase:
            case _Phase.THINKING:
                state = self._think(state, token_id)
            case _Phase.CLOSING:
                state = self._close(state, token_id)
            case _Phase.BEGINNING:
                state = self._begin_with(state, token_id)
        self._states.append(state)
        self._tail.append(token_id)

    def roll_back(self, num_tokens: int) -> None:
        num_answered = min(num_tokens, self._num_answered)
        if num_answered and self._answer is not None:
            self._answer.roll_back(num_answered)
        self._num_answered -= num_answered
        rest = num_tokens - num_answered
        if rest >= len(self._states):
            raise ValueError(f"cannot forget {num_tokens} tokens")
        if rest:
            was_answer = self._states[-1].phase is _Phase.ANSWERING and self._states[-2].phase is _Phase.BEGINNING
            if was_answer and self._answer is not None:
                self._answer.roll_back(1)  # the token that told that there would be no thoughts
            del self._states[-rest:]
            del self._tail[-rest:]

    @property
    def is_complete(self) -> bool:
        return self._states[-1].phase is _Phase.ANSWERING and self._answer is not None and self._answer.is_complete

    def _accept_answer(self, token_id: int) -> None:
        if self._answer is not None:
            self._answer.accept(token_id)
        self._num_answered += 1

    def _begin_with(self, state: _State, token_id: int) -> _State:
        if token_id == self._begin[state.num_matched]:
            num_matched = state.num_matched + 1
            return self._thinking(0, 0) if num_matched == len(self._begin) else state._replace(num_matched=num_matched)
        if state.num_matched and self._answer is not None:
            raise ValueError("the beginning of thoughts was broken off")
        if self._answer is not None:
            self._answer.accept(token_id)
        return _State(_Phase.ANSWERING)

    def _think(self, state: _State, token_id: int) -> _State:
        num_recent = min(state.num_thoughts, len(self._end) - 1)
        recent = [*self._tail[len(self._tail) - num_recent :], token_id]
        if recent[-len(self._end) :] == self._end:
            return _State(_Phase.ANSWERING)
        overlap = next(n for n in range(len(self._end) - 1, -1, -1) if n == 0 or recent[-n:] == self._end[:n])
        return self._thinking(state.num_thoughts + 1, overlap)

    def _thinking(self, num_thoughts: int, overlap: int) -> _State:
        """More thoughts, or the end of them; what of the end is there already is not written again."""
        if self._max_thoughts is not None and num_thoughts >= self._max_thoughts:
            return _State(_Phase.CLOSING, num_thoughts, overlap)
        return _State(_Phase.THINKING, num_thoughts)

    def _close(self, state: _State, token_id: int) -> _State:
        if token_id != self._end[state.num_matched]:
            raise ValueError("there are no thoughts left")
        num_matched = state.num_matched + 1
        return _State(_Phase.ANSWERING) if num_matched == len(self._end) else state._replace(num_matched=num_matched)


def _allow(mask: NDArray[np.int32], token_id: int) -> None:
    mask.view(np.uint32)[token_id // 32] |= np.uint32(1 << token_id % 32)


def _forbid(mask: NDArray[np.int32], token_id: int) -> None:
    if token_id // 32 < len(mask):
        mask.view(np.uint32)[token_id // 32] &= np.uint32(0xFFFFFFFF ^ 1 << token_id % 32)
