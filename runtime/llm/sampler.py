"""Logits to tokens, for all rows of a step together. The order of the rules, each in its module of `sampling/`:

raw logits (kept for logprobs) → mask, logit_bias, repetition, frequency and presence penalties (`adjustments`) →
greedy rows take the best → temperature → mirostat, or typical_p, top_k, top_p, min_p (`weights`) → one uniform number
per row, a hash of seed and position (`draw`).

A rule that would leave nothing leaves the best token. What a row gives depends on that row alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from runtime.llm.request import SampledToken
from runtime.llm.sampling.adjustments import adjust
from runtime.llm.sampling.draw import draw, totals, uniforms
from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.sampling.logprobs import AskedToken, with_logprobs
from runtime.llm.sampling.mirostat import next_mus
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.sampling.weights import kept_weights, tempered_weights

__all__ = ["SampledRow", "draw", "processed_probabilities", "sample", "uniforms"]

_LOGITS_AT_ONCE = 2**18
_ROWS_AT_ONCE_MIN = 4
"""On a CPU, so that the weights stay in its cache: of 152k tokens 4 rows are five times as fast as 32 at once."""


class _Part(NamedTuple):
    """Rows that go the same way, and where they stand in the whole."""

    indices: list[int]
    logits: torch.Tensor
    rows: list[SampledRow]


def sample(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None = None) -> list[SampledToken]:
    """One token for each row of `logits` [rows, vocabulary]; the same ones with kernels as without."""
    indices: list[int] = []
    chosen: list[torch.Tensor] = []
    mus: dict[int, float] = {}
    for part in _parts(logits, rows, kernels):
        token_ids = _choose(part.logits, part.rows, kernels)
        indices += part.indices
        chosen.append(token_ids)
        mus |= _next_mus(part, token_ids)
    by_index = dict(zip(indices, torch.cat(chosen).tolist(), strict=True))
    sampled = [SampledToken(by_index[index], None, [], mus.get(index)) for index in range(len(rows))]
    asking = [index for index, row in enumerate(rows) if row.num_logprobs is not None]
    if asking:
        asked = [AskedToken(index, by_index[index], rows[index].num_logprobs or 0) for index in asking]
        for index, told in zip(asking, with_logprobs(logits, asked), strict=True):
            sampled[index] = sampled[index]._replace(logprob=told.logprob, top=told.top)
    return sampled


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
            probabilities[[indices[index] for index in greedy], part_logits[greedy].max(dim=-1).indices] = 1.0
        for some in _slices(drawn, logits):
            weights = kept_weights(part_logits[some], [part_rows[index] for index in some], kernels)
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
        yield _Part(plain, logits[plain], [rows[index] for index in plain])
    for some in _slices(adjusted, logits):
        own_rows = [rows[index] for index in some]
        yield _Part(some, adjust(logits[some].float(), own_rows, kernels), own_rows)


def _choose(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> torch.Tensor:
    drawn = [index for index, row in enumerate(rows) if not row.is_greedy]
    if len(drawn) == len(rows):
        return _draw_all(logits, rows, kernels)
    token_ids = logits.max(dim=-1).indices  # argmax takes four times as long on bfloat16
    if drawn:
        token_ids[drawn] = _draw_all(logits[drawn], [rows[index] for index in drawn], kernels)
    return token_ids


def _draw_all(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> torch.Tensor:
    step = _num_rows_at_once(logits)
    starts = range(0, len(rows), step)
    return torch.cat([_draw(logits[start : start + step], rows[start : start + step], kernels) for start in starts])


def _draw(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> torch.Tensor:
    uniform = uniforms([row.seed for row in rows], [row.position for row in rows])
    return draw(kept_weights(logits, rows, kernels), uniform, kernels)


def _next_mus(part: _Part, token_ids: torch.Tensor) -> dict[int, float]:
    steered = [index for index, row in enumerate(part.rows) if row.is_mirostat]
    if not steered:
        return {}
    rows = [part.rows[index] for index in steered]
    mus = next_mus(tempered_weights(part.logits[steered], rows), rows, token_ids[steered])
    return dict(zip([part.indices[index] for index in steered], mus, strict=True))


def _slices(indices: list[int], logits: torch.Tensor) -> list[list[int]]:
    step = _num_rows_at_once(logits)
    return [indices[start : start + step] for start in range(0, len(indices), step)]


def _num_rows_at_once(logits: torch.Tensor) -> int:
    num_rows, vocab_size = logits.shape
    return max(_ROWS_AT_ONCE_MIN, _LOGITS_AT_ONCE // vocab_size) if logits.device.type == "cpu" else num_rows
