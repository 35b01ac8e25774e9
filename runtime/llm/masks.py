"""Masks of constrained rows, filled by a few threads while the device computes those rows.

A constraint belongs to one request, and a request has one row in a step: no two threads ever touch the same one, and
the engine touches none from when its filling begins until its mask was asked for. Begins no thread before the first
constrained row.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from runtime.llm.request import Request, ScheduledRequest, TokenConstraint

logger = logging.getLogger(__name__)

THREADS_MAX = 4

Mask = NDArray[np.int32] | None
"""None: every token may come."""


class PendingMasks:
    """Of one step; its methods wait for a row's masks."""

    def __init__(self, fillings: "dict[Request, Future[list[Mask]]]") -> None:
        self._fillings = fillings

    def include(self, others: "PendingMasks") -> None:
        """Those of other rows of the step, begun later."""
        self._fillings |= others._fillings

    def of(self, row: ScheduledRequest) -> list[Mask]:
        """For what follows the row's last token, and each token of its draft as far as its constraint goes along."""
        filling = self._fillings.get(row.request)
        if filling is None or filling.exception() is not None:
            return [None] * (len(row.draft_token_ids) + 1)
        return filling.result()

    def failure_of(self, row: ScheduledRequest) -> Exception | None:
        """What the row's constraint raised; its masks are none, and so is its result."""
        filling = self._fillings.get(row.request)
        failure = None if filling is None else filling.exception()
        if failure is None or isinstance(failure, Exception):
            return failure
        return RuntimeError(f"the constraint broke down: {failure!r}")  # how a panic of native code arrives


class MaskFiller:
    def __init__(self, vocab_size: int) -> None:
        self._num_words = -(-vocab_size // 32)
        self._threads = ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), thread_name_prefix="masks")

    def begin(self, rows: Sequence[ScheduledRequest]) -> PendingMasks:
        return PendingMasks({row.request: self._begin_row(row) for row in rows if _is_constrained(row)})

    def _begin_row(self, row: ScheduledRequest) -> "Future[list[Mask]]":
        assert row.request.constraint is not None
        return self._threads.submit(fill_masks_for_draft, row.request.constraint, row.draft_token_ids, self._num_words)


def _is_constrained(row: ScheduledRequest) -> bool:
    return row.is_sampled and row.request.constraint is not None


def fill_masks_for_draft(constraint: TokenConstraint, draft_token_ids: Sequence[int], num_words: int) -> list[Mask]:
    """What may come now, and after each token of the draft; the constraint is left where it was.

    Ends before the first token of the draft that may not come, after which nothing may, or at which the constraint
    breaks: a request may end before it gets there, and one that does not meets what broke as its next token's mask.
    """
    masks = [_fill(constraint, num_words)]
    num_accepted = 0
    try:
        for token_id in draft_token_ids:
            if constraint.is_complete or not _allows(masks[-1], token_id):
                break
            constraint.accept(token_id)
            num_accepted += 1
            masks.append(_fill(constraint, num_words))
    except Exception as error:
        logger.debug("a constraint breaks within a draft: %r", error)
    finally:
        constraint.roll_back(num_accepted)
    return masks


def _fill(constraint: TokenConstraint, num_words: int) -> Mask:
    mask = np.empty(num_words, dtype=np.int32)
    return mask if constraint.fill_mask(mask) else None


def _allows(mask: Mask, token_id: int) -> bool:
    if mask is None:
        return True
    return token_id // 32 < len(mask) and bool(int(mask.view(np.uint32)[token_id // 32]) >> token_id % 32 & 1)
