"""Where the texts of a step lie in one flat sequence of tokens, and which of them attention takes together.

The texts are sorted, the longest first. Those of like length form a run, which is padded to its longest in attention
and nowhere else. Knows lengths only.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

_FILLED_MIN = 0.6
"""Of its run's longest, what each text in it fills at least: the squares of attention are cheap where texts are short
and dear where they are long."""
_LENGTH_ALIKE = 16
"""Differences below this are always padded: a call for each length would cost more."""


class Run:
    """Texts that follow one another in a step."""

    def __init__(self, start: int, lengths: Sequence[int], device: torch.device) -> None:
        self.start = start
        self.stop = start + sum(lengths)
        self.num_texts = len(lengths)
        self.longest = lengths[0]
        self.is_even = lengths[0] == lengths[-1]
        """Whether nothing has to be padded."""
        self._lengths = lengths
        self._device = device
        self._masks: dict[tuple[bool, int | None], torch.Tensor | None] = {}

    @cached_property
    def kept(self) -> torch.Tensor:
        """[texts, longest]: which places hold a token."""
        lengths = torch.tensor(self._lengths, device=self._device)
        return torch.arange(self.longest, device=self._device) < lengths[:, None]

    @cached_property
    def places(self) -> torch.Tensor:
        """[texts, longest]: the token of each place in the flat sequence; where there is none, the text's first."""
        lengths = torch.tensor(self._lengths, device=self._device)
        starts = lengths.cumsum(0) - lengths + self.start
        return starts[:, None] + torch.arange(self.longest, device=self._device) * self.kept

    def mask(self, *, is_causal: bool, window: int | None) -> torch.Tensor | None:
        """Who sees whom, to be broadcast to [texts, heads, longest, longest]; None: all, or all before, see each."""
        key = (is_causal, window)
        if key not in self._masks:
            self._masks[key] = self._make_mask(is_causal, window)
        return self._masks[key]

    def _make_mask(self, is_causal: bool, window: int | None) -> torch.Tensor | None:
        if window is None or window >= self.longest:
            # Padding lies behind a text, where no token of it looks if it looks only back.
            return None if self.is_even or is_causal else self.kept[:, None, None, :]
        positions = torch.arange(self.longest, device=self._device)
        distance = positions[:, None] - positions
        mask = distance.abs() < window
        if is_causal:
            mask &= distance >= 0
        mask = mask[None, None]
        if self.is_even or is_causal:
            return mask
        # A padded place sees something too: a row without any key has no softmax.
        return mask & self.kept[:, None, None, :] | (distance == 0)


class Layout:
    """`lengths` of the step's texts, falling where `runs` are asked for."""

    def __init__(
        self, lengths: Sequence[int], device: torch.device, note_layer: Callable[[], None] = lambda: None
    ) -> None:
        self.lengths = lengths
        self.device = device
        self.note_layer = note_layer
        """Called in every layer."""
        self.num_tokens = sum(lengths)

    @cached_property
    def runs(self) -> list[Run]:
        runs: list[Run] = []
        first, start = 0, 0
        for index in range(1, len(self.lengths) + 1):
            longest = self.lengths[first]
            if index < len(self.lengths) and self.lengths[index] >= min(longest * _FILLED_MIN, longest - _LENGTH_ALIKE):
                continue
            run = Run(start, self.lengths[first:index], self.device)
            runs.append(run)
            first, start = index, run.stop
        return runs

    @cached_property
    def sizes(self) -> torch.Tensor:
        """[texts]"""
        return torch.tensor(self.lengths, device=self.device)

    @cached_property
    def first_places(self) -> torch.Tensor:
        return self.sizes.cumsum(0) - self.sizes

    @cached_property
    def last_places(self) -> torch.Tensor:
        return self.sizes.cumsum(0) - 1

    @cached_property
    def owners(self) -> torch.Tensor:
        """[tokens]: which text each is of."""
        return torch.repeat_interleave(torch.arange(len(self.lengths), device=self.device), self.sizes)

    @cached_property
    def positions(self) -> torch.Tensor:
        """[tokens]: of each in its text."""
        return torch.arange(self.num_tokens, device=self.device) - self.first_places[self.owners]
