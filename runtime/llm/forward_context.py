"""What attention layers need to know of the running step, beside the tensors they are called with.

A module-level variable and not keyword arguments, because not every decoder of transformers passes those down to its
layers. Only the engine's thread runs a forward, one at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch


class StepAttention(Protocol):
    """An attention back end that has prepared itself for one batch."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        sliding_window: int | None,
        softcap: float | None = None,
    ) -> torch.Tensor:
        """Store the step's keys and values, attend to all of each request's.

        All tensors are [tokens, heads, head size], the batch flattened; so is the result, contiguous. Values may be of
        another size than keys. With `softcap` a score x counts as softcap × tanh(x ÷ softcap).
        """


_current: StepAttention | None = None


@contextmanager
def use_attention(attention: StepAttention) -> Iterator[None]:
    """For one forward."""
    global _current
    _current = attention
    try:
        yield
    finally:
        _current = None


def current_attention() -> StepAttention:
    assert _current is not None, "attention outside of a step"
    return _current
