"""From logits to the distribution that a token is drawn from: temperature, then mirostat or else typical_p, top_k,
top_p and min_p. The one place that applies them, for drawing and for whoever asks for probabilities.
"""

from collections.abc import Callable

import torch

from runtime.llm.sampling.columns import Columns
from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.sampling.mirostat import surprise_thresholds
from runtime.llm.sampling.truncation import keep_mask, keep_typical, top_thresholds
from runtime.llm.transfer import indices_on


def kept_weights(logits: torch.Tensor, columns: Columns, kernels: SamplingKernels | None = None) -> torch.Tensor:
    """[rows, vocabulary]: probabilities but for a factor; 0 for what a rule leaves out."""
    weights = tempered_weights(logits, columns)
    _change(weights, columns.steered, lambda some, rows: _leave_out_surprising(some, columns.mu[rows]))
    _change(weights, columns.typical, lambda some, rows: _leave_typical(some, columns.typical_p[rows]))
    if kernels is not None:
        if columns.truncated or columns.has_min_p:
            kernels.truncate(weights, columns.limits)
        return weights
    _change(weights, columns.truncated, lambda some, rows: _leave_top(some, columns.top_k[rows], columns.top_p[rows]))
    if columns.has_min_p:
        weights.mul_(keep_mask(weights, columns.min_p))
    return weights


def tempered_weights(logits: torch.Tensor, columns: Columns) -> torch.Tensor:
    """[rows, vocabulary]: probabilities before anything is left out, relative to the row's best, which is 1."""
    logits = logits.float()
    # Subtracting before dividing: the best logit becomes 0 and its weight 1, however small the temperature.
    # exp2 takes a third of the time of exp.
    return (logits - logits.amax(dim=-1, keepdim=True)).mul_(columns.exponents).exp2_()


def _leave_out_surprising(weights: torch.Tensor, mu: torch.Tensor) -> None:
    weights.mul_(keep_mask(weights, surprise_thresholds(weights, mu)))


def _leave_typical(weights: torch.Tensor, masses: torch.Tensor) -> None:
    weights.copy_(keep_typical(weights, masses))


def _leave_top(weights: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> None:
    weights.mul_(keep_mask(weights, top_thresholds(weights, top_k, top_p)))


def _change(weights: torch.Tensor, rows: list[int], rule: Callable[[torch.Tensor, torch.Tensor | slice], None]) -> None:
    """Have the rule change the weights of these rows; it is told which of all they are."""
    if len(rows) == len(weights):
        rule(weights, slice(None))
    elif rows:
        where = indices_on(weights.device, rows)
        some = weights.index_select(0, where)
        rule(some, where)
        weights.index_copy_(0, where, some)
