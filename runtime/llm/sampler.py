"""Logits to tokens, for all rows of a step together. The order of the rules, each in its module of `sampling/`:

raw logits (kept for logprobs) → mask, logit_bias, repetition, frequency and presence penalties (`adjustments`) →
greedy rows take the best → temperature → mirostat, or typical_p, top_k, top_p, min_p (`weights`) → one uniform number
per row, a hash of seed and position (`draw`).

A rule that would leave nothing leaves the best token. What a row gives depends on that row alone. The host waits for
nothing here: what the rules need is brought to the device in copies that nobody waits for, and tokens are read when the
caller wants them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from runtime.llm.request import SampledToken
from runtime.llm.sampling.adjustments import adjust
from runtime.llm.sampling.columns import Columns
from runtime.llm.sampling.draw import draw, totals, uniforms
from runtime.llm.sampling.greatest import greatest_tokens
from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.sampling.logprobs import TokenLogprobs
from runtime.llm.sampling.mirostat import next_mu, surprises
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.sampling.weights import kept_weights, tempered_weights
from runtime.llm.transfer import Arrival, indices_on

__all__ = ["Sampled", "SampledRow", "draw", "processed_probabilities", "sample", "uniforms"]

_LOGITS_AT_ONCE = 2**18
_ROWS_AT_ONCE_MIN = 4
"""On a CPU, so that the weights stay in its cache: of 152k tokens 4 rows are five times as fast as 32 at once."""


class _Part(NamedTuple):
    """Rows that go the same way, and where they stand in the whole."""

    indices: list[int]
    logits: torch.Tensor
    rows: list[SampledRow]


class Sampled:
    """One token for each of some rows: at once for the next step on the device, and on its way to the host."""

    def __init__(
        self, rows: list[SampledRow], token_ids: torch.Tensor, logprobs: TokenLogprobs | None, surprises: torch.Tensor
    ) -> None:
        self.token_ids = token_ids
        """[rows], on the device."""
        self._rows = rows
        self._arrival = Arrival([token_ids, surprises, *(logprobs or ())], token_ids.device)

    def tokens(self) -> list[SampledToken]:
        """Wait for them."""
        token_ids, surprises, *logprobs = self._arrival.wait()
        tokens = [SampledToken(token_id, None, []) for token_id in token_ids.tolist()]
        if logprobs:
            asking = _asking(self._rows)
            asked = [tokens[index].token_id for index in asking]
            told = TokenLogprobs(*logprobs).tell(asked, [self._rows[index].num_logprobs or 0 for index in asking])
            for index, token in zip(asking, told, strict=True):
                tokens[index] = token
        for index, surprise in zip(_steered(self._rows), surprises.tolist(), strict=True):
            tokens[index] = tokens[index]._replace(mirostat_mu=next_mu(self._rows[index], surprise))
        return tokens


def sample(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None = None) -> Sampled:
    """Choose one token for each row of `logits` [rows, vocabulary]; the same ones with kernels as without."""
    places: list[int] = []
    chosen: list[torch.Tensor] = []
    steered: dict[int, torch.Tensor] = {}
    for part in _parts(logits, rows, kernels):
        token_ids = _choose(part.logits, part.rows, kernels)
        places += part.indices
        chosen.append(token_ids)
        steered |= _surprises(part, token_ids)
    token_ids = _in_order(places, chosen)
    logprobs = None
    if asking := _asking(rows):
        num_top = max(rows[index].num_logprobs or 0 for index in asking)
        logprobs = TokenLogprobs.of(_rows_of(logits, asking), _rows_of(token_ids, asking), num_top)
    surprise = [steered[index] for index in _steered(rows)]
    return Sampled(rows, token_ids, logprobs, torch.stack(surprise) if surprise else logits.new_empty(0))


def processed_probabilities(
    logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None = None
) -> torch.Tensor:
    """[rows, vocabulary], float32: the very distribution that `sample` draws each row from, after all rules.

    1 for the best token of a greedy row; `draw(these, uniforms(seeds, positions))` gives what `sample` gives. A row
    behind a draft is made by `SampledRow.of(request, the draft before it, its mask)`. Requests with mirostat must not
    be drafted for: a row behind a draft would need the draft's effect on mu.
    """
    probabilities = torch.zeros(logits.shape, device=logits.device)
    for indices, part_logits, part_rows in _parts(logits, rows, kernels):
        greedy = [index for index, row in enumerate(part_rows) if row.is_greedy]
        drawn = [index for index, row in enumerate(part_rows) if not row.is_greedy]
        if greedy:
            probabilities[[indices[index] for index in greedy], greatest_tokens(part_logits[greedy])] = 1.0
        for some in _slices(drawn, logits):
            columns = Columns(logits, [part_rows[index] for index in some])
            weights = kept_weights(part_logits[some], columns, kernels)
            probabilities[[indices[index] for index in some]] = (weights / totals(weights)).float()
    return probabilities


def _parts(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> Iterator[_Part]:
    """Rows whose logits stay as they are, and then the others after mask, bias and penalties."""
    adjusted = [index for index, row in enumerate(rows) if row.adjusts_logits]
    if not adjusted:
        yield _Part(list(range(len(rows))), logits, rows)
        return
    plain = [index for index, row in enumerate(rows) if not row.adjusts_logits]
    if plain:
        yield _Part(plain, _rows_of(logits, plain), [rows[index] for index in plain])
    for some in _slices(adjusted, logits):
        own_rows = [rows[index] for index in some]
        yield _Part(some, adjust(_copied_rows(logits, some), own_rows, kernels), own_rows)


def _choose(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> torch.Tensor:
    drawn = [index for index, row in enumerate(rows) if not row.is_greedy]
    if len(drawn) == len(rows):
        return _draw_all(logits, rows, kernels)
    token_ids = greatest_tokens(logits)
    if drawn:
        where = indices_on(logits.device, drawn)
        some = _draw_all(logits.index_select(0, where), [rows[index] for index in drawn], kernels)
        token_ids.index_copy_(0, where, some)
    return token_ids


def _draw_all(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> torch.Tensor:
    step = _num_rows_at_once(logits)
    starts = range(0, len(rows), step)
    return torch.cat([_draw(logits[start : start + step], rows[start : start + step], kernels) for start in starts])


def _draw(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> torch.Tensor:
    columns = Columns(logits, rows)
    return draw(kept_weights(logits, columns, kernels), columns.uniform, kernels)


def _surprises(part: _Part, token_ids: torch.Tensor) -> dict[int, torch.Tensor]:
    """By place in the whole, of the rows with mirostat."""
    steered = _steered(part.rows)
    if not steered:
        return {}
    logits = _rows_of(part.logits, steered)
    weights = tempered_weights(logits, Columns(logits, [part.rows[index] for index in steered]))
    found = surprises(weights, _rows_of(token_ids, steered))
    return dict(zip([part.indices[index] for index in steered], found.unbind(), strict=True))


def _steered(rows: list[SampledRow]) -> list[int]:
    return [index for index, row in enumerate(rows) if row.is_mirostat]


def _asking(rows: list[SampledRow]) -> list[int]:
    """For logprobs."""
    return [index for index, row in enumerate(rows) if row.num_logprobs is not None]


def _in_order(places: list[int], parts: list[torch.Tensor]) -> torch.Tensor:
    """The parts together, each entry at its place."""
    entries = parts[0] if len(parts) == 1 else torch.cat(parts)
    if places == list(range(len(places))):
        return entries
    return torch.empty_like(entries).index_copy_(0, indices_on(entries.device, places), entries)


def _rows_of(tensor: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """Some of its rows, or all as they are."""
    return tensor if len(indices) == len(tensor) else tensor.index_select(0, indices_on(tensor.device, indices))


def _copied_rows(logits: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """In float32, to be changed."""
    return logits.index_select(0, indices_on(logits.device, indices)).float()


def _slices(indices: list[int], logits: torch.Tensor) -> list[list[int]]:
    step = _num_rows_at_once(logits)
    return [indices[start : start + step] for start in range(0, len(indices), step)]


def _num_rows_at_once(logits: torch.Tensor) -> int:
    num_rows, vocab_size = logits.shape
    return max(_ROWS_AT_ONCE_MIN, _LOGITS_AT_ONCE // vocab_size) if logits.device.type == "cpu" else num_rows
