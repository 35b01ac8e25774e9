"""Mirostat 2.0: a row's surprise, in bits, is steered to its target by cutting off what would surprise too much.

A token whose surprise -log2(p) exceeds mu is left out. mu starts at twice the target and then moves against the error:
mu -= mirostat_lr * (surprise of the token that came - target). Surprise is that of the distribution at the request's
temperature, before anything is left out. mu belongs to the request; it moves only with tokens that the engine accepts.
"""

import math

import torch

from runtime.llm.sampling.draw import totals
from runtime.llm.sampling.rows import SampledRow


def surprise_thresholds(weights: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
    """The smallest weight that is kept of each row, as a column like `mu`, which is float64.

    Weights are relative to the row's best, which is 1.
    """
    return (totals(weights) * torch.exp2(-mu)).clamp_(max=1).float()


def surprises(weights: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """How much of one each row's token is, in bits. `weights` as they were before any was left out."""
    chosen = weights.gather(1, token_ids.unsqueeze(1)).double()
    return torch.log2(totals(weights) / chosen).squeeze(1)


def next_mu(row: SampledRow, surprise: float) -> float:
    """After the row's token."""
    mu, target = current_mu(row), row.params.mirostat_target or 0.0
    if not math.isfinite(surprise):
        return mu  # the logits are no numbers; that must not outlast them
    return mu - row.params.mirostat_lr * (surprise - target)


def current_mu(row: SampledRow) -> float:
    if row.mirostat_mu is not None:
        return row.mirostat_mu
    return 2 * (row.params.mirostat_target or 0.0)
