"""Which steps share a captured graph: a step is padded to the smallest size that holds it. Pure; knows no device.

A size is more than a number of tokens, because a graph launches as many programs of attention in every step as it was
captured with. Programs with nothing to do cost little but not nothing, so there are several sizes for many tokens,
by how far the keys of a request are spread over programs; of few tokens there is one.
"""

from bisect import bisect_left
from typing import NamedTuple

from models.sizing import GRAPH_ROWS_MAX, GRAPH_TOKENS_MAX
from runtime.llm.attention_work import FEW_TOKENS, SEGMENTS_MAX, WorkCounts

DECODE_TOKENS = (1, 2, 4, *range(8, GRAPH_ROWS_MAX + 1, 8))
MIXED_TOKENS = (16, 32, 64, 128, 192, 256, 384, GRAPH_TOKENS_MAX)
"""With more tokens the device computes for longer than the host takes to launch."""

_MIXED_DECODES = 64
"""Of tokens in a mixed step, so many are expected to be decodes at most."""
_MIXED_LOGITS_PER_SPREAD = 16
_MIXED_SPREADS = (4, SEGMENTS_MAX)
_TABLE_ENTRIES_MAX = 2**20
"""Of all block tables in one step."""


class GraphSize(NamedTuple):
    num_tokens: int
    spread: int
    """Programs of attention for each token, on average."""
    is_mixed: bool
    """Whether prompts are computed in it, beside decodes and their drafts."""
    has_adapters: bool = False
    """Whether adapters are added to some rows; it takes no other room."""


class Counts(NamedTuple):
    """What a step needs, or what a graph has room for."""

    num_tokens: int
    num_logits: int
    """Rows of logits."""
    work: WorkCounts


class GraphSizes:
    """Those of one model. `tokens_per_tile`: of a prompt, that one program of attention takes on."""

    def __init__(self, *, max_num_logits: int, max_batch_tokens: int, tokens_per_tile: int) -> None:
        self.max_num_logits = max_num_logits
        self._tokens_per_tile = tokens_per_tile
        self._decode_tokens = [size for size in DECODE_TOKENS if size <= min(max_num_logits, max_batch_tokens)]
        self._mixed_tokens = [size for size in MIXED_TOKENS if size <= max_batch_tokens]

    def smallest(self, step: Counts) -> GraphSize | None:
        """The one that holds the step."""
        is_mixed = step.work.num_many > 0
        sizes = self._mixed_tokens if is_mixed else self._decode_tokens
        place = bisect_left(sizes, step.num_tokens)
        if place == len(sizes):
            return None
        candidates = [GraphSize(sizes[place], spread, is_mixed) for spread in _spreads(sizes[place], is_mixed)]
        return next((size for size in candidates if _holds(self.room(size), step)), None)

    def room(self, size: GraphSize) -> Counts:
        num_tokens, spread, is_mixed, _ = size
        if not is_mixed:
            num_few = num_tokens * spread
            num_merges = num_tokens if spread > 1 else 0
            work = WorkCounts(num_few, 0, num_merges, num_few if num_merges else 0, _TABLE_ENTRIES_MAX)
            return Counts(num_tokens, num_tokens, work)
        num_few = min(num_tokens, _MIXED_DECODES) * spread
        num_many = -(-num_tokens // self._tokens_per_tile) + spread
        work = WorkCounts(num_few, num_many, num_tokens, 2 * num_few, _TABLE_ENTRIES_MAX)
        num_logits = min(num_tokens, _MIXED_LOGITS_PER_SPREAD * spread, self.max_num_logits)
        return Counts(num_tokens, num_logits, work)

    def all(self) -> list[GraphSize]:
        """Smallest first, without adapters."""
        return [
            GraphSize(num_tokens, spread, is_mixed)
            for is_mixed, sizes in ((False, self._decode_tokens), (True, self._mixed_tokens))
            for num_tokens in sizes
            for spread in _spreads(num_tokens, is_mixed)
        ]


def _spreads(num_tokens: int, is_mixed: bool) -> tuple[int, ...]:
    if is_mixed:
        return _MIXED_SPREADS
    if num_tokens <= FEW_TOKENS:
        return (SEGMENTS_MAX,)
    return (8, SEGMENTS_MAX) if num_tokens <= 4 * FEW_TOKENS else (1, 4, 12, SEGMENTS_MAX)


def _holds(room: Counts, step: Counts) -> bool:
    # A token of padding takes a program, too: what it puts out must be a number.
    num_padding = room.num_tokens - step.num_tokens
    needed = step.work._replace(num_few=step.work.num_few + num_padding)
    return step.num_logits <= room.num_logits and all(
        count <= has for count, has in zip(needed, room.work, strict=True)
    )
