"""Mirostat 2.0: a row's surprise, in bits, is steered to its target by cutting off what would surprise too much.

A token whose surprise -log2(p) exceeds mu is left out. mu starts at twice the target and then moves against the error:
mu -= mirostat_lr * (surprise of the token that came - target). Surprise is that of the distribution at the request's
temperature, before anything is left out. mu belongs to the request; it moves only with tokens that the engine accepts.
"""

import math

import torch

from runtime.llm.sampling.draw import totals
from runtime.llm.sampling.rows import SampledRow


def surprise_thresholds(weights: torch.Tensor, rows: list[SampledRow]) -> torch.Tensor:
    """The smallest weight that is kept of each row, as a column; weights are relative to the row's best, which is 1."""
    mu = torch.tensor([[_mu(row)] for row in rows], dtype=torch.float64, device=weights.device)
    return (totals(weights) * torch.exp2(-mu)).clamp_(max=1).float()


def next_mus(weights: torch.Tensor, rows: list[SampledRow], token_ids: torch.Tensor) -> list[float]:
    """mu after these tokens. `weights` as they were before any was left out."""
    chosen = weights.gather(1, token_ids.unsqueeze(1)).double()
    surprises = torch.log2(totals(weights) / chosen).squeeze(1).tolist()
    return [_next_mu(row, surprise) for row, surprise in zip(rows, surprises, strict=True)]


def _next_mu(row: SampledRow, surprise: float) -> float:
    mu, target = _mu(row), row.params.mirostat_target or 0.0
    if not math.isfinite(surprise):
        return mu  # the logits are no numbers; that must not outlast them
    return mu - row.params.mirostat_lr * (surprise - target)


def _mu(row: SampledRow) -> float:
    if row.mirostat_mu is not None:
        return row.mirostat_mu
    return 2 * (row.params.mirostat_target or 0.0)
