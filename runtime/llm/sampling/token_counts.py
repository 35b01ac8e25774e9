"""Which tokens stand in a request's prompt, and how often which stand in its output: what penalties look at.

A function of the tokens alone: it catches up with the output when it is asked, and a preemption changes nothing.
Holds as many entries as there are distinct tokens, never a vocabulary's worth. Knows no torch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.submission import SamplingParams

_CAPACITY_FIRST = 64


class Counted(NamedTuple):
    token_ids: NDArray[np.int64]
    """Distinct."""
    counts: NDArray[np.float32]


class TokenCounts:
    """`prompt_token_ids`: distinct; none where no rule looks at the prompt."""

    def __init__(self, prompt_token_ids: NDArray[np.int64]) -> None:
        self.prompt_token_ids = prompt_token_ids
        self._num_counted = 0
        self._index: dict[int, int] = {}
        self._token_ids = np.empty(_CAPACITY_FIRST, dtype=np.int64)
        self._counts = np.empty(_CAPACITY_FIRST, dtype=np.float32)

    @classmethod
    def of(cls, sampling: SamplingParams, prompt_token_ids: Sequence[int]) -> "TokenCounts | None":
        """Nothing counted yet; None where no penalty would look at it."""
        if sampling.repetition_penalty != 1:
            return cls(np.unique(np.array(prompt_token_ids, dtype=np.int64)))
        if sampling.frequency_penalty or sampling.presence_penalty:
            return cls(np.empty(0, dtype=np.int64))
        return None

    def fork(self) -> "TokenCounts":
        """For another output after the same prompt."""
        return TokenCounts(self.prompt_token_ids)

    def catch_up(self, output_token_ids: Sequence[int]) -> None:
        """Count what the output gained; it only ever grows."""
        for token_id in output_token_ids[self._num_counted :]:
            index = self._index.get(token_id)
            if index is None:
                index = self._append(token_id)
            self._counts[index] += 1
        self._num_counted = len(output_token_ids)

    def output(self, draft_token_ids: Sequence[int] = ()) -> Counted:
        """Counts as if the draft had been put out as well."""
        num_distinct = len(self._index)
        token_ids, counts = self._token_ids[:num_distinct], self._counts[:num_distinct]
        if not draft_token_ids:
            return Counted(token_ids, counts)
        token_ids, index = np.unique(np.concatenate([token_ids, np.array(draft_token_ids)]), return_inverse=True)
        weights = np.concatenate([counts, np.ones(len(draft_token_ids), dtype=np.float32)])
        return Counted(token_ids, np.bincount(index, weights).astype(np.float32))

    def _append(self, token_id: int) -> int:
        index = len(self._index)
        if index == len(self._token_ids):
            self._token_ids = np.concatenate([self._token_ids, np.empty_like(self._token_ids)])
            self._counts = np.concatenate([self._counts, np.empty_like(self._counts)])
        self._token_ids[index] = token_id
        self._counts[index] = 0
        self._index[token_id] = index
        return index
