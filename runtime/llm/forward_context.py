"""What layers need to know of the running step, beside the tensors they are called with.

A module-level variable and not keyword arguments, because not every decoder of transformers passes those down to its
layers. Only the engine's thread runs a forward, one at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Scoring(NamedTuple):
    """Which keys a query of one layer sees, and how their scores become weights."""

    scaling: float
    """Of a query's product with a key."""
    sliding_window: int | None = None
    """Keys up to the query's own position; None: all of them."""
    softcap: float | None = None
    """A score x counts as softcap × tanh(x ÷ softcap)."""
    sinks: torch.Tensor | None = None
    """[heads]: a score of one more key that every query sees, whose value is zero (Xiao et al., StreamingLLM, 2023;
    gpt-oss)."""


class StepAttention(Protocol):
    """An attention back end that has prepared itself for one batch."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        """Store the step's keys and values, attend to all of each request's.

        All tensors are [tokens, heads, head size], the batch flattened; so is the result, contiguous. Values may be of
        another size than keys.
        """


class StepPlan(Protocol):
    """What a back end has decided on the host for one batch."""

    @property
    def tables(self) -> Sequence[NDArray[np.int32]]:
        """To be brought to the device, together with whatever else the step needs there."""

    def begin(self, tables: Sequence[torch.Tensor]) -> StepAttention:
        """`tables` have arrived."""


_current: StepAttention | None = None
_asked_rows: NDArray[np.int64] | None = None


@contextmanager
def use_attention(attention: StepAttention, asked_rows: NDArray[np.int64] | None = None) -> Iterator[None]:
    """For one forward."""
    global _current, _asked_rows
    _current, _asked_rows = attention, asked_rows
    try:
        yield
    finally:
        _current = _asked_rows = None


def current_attention() -> StepAttention:
    assert _current is not None, "attention outside of a step"
    return _current


def current_asked_rows() -> NDArray[np.int64] | None:
    """Tokens of the batch, ascending: behind the last layer nobody looks at any other; None: at all of them."""
    return _asked_rows
