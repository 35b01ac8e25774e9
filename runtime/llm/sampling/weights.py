"""From logits to the distribution that a token is drawn from: temperature, then mirostat or else typical_p, top_k,
top_p and min_p. The one place that applies them, for drawing and for whoever asks for probabilities.
"""

import math

import torch

from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.sampling.mirostat import surprise_thresholds
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.sampling.truncation import keep_mask, keep_typical, top_thresholds
from runtime.submission import SamplingParams

_NEUTRAL = SamplingParams()


def kept_weights(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None = None) -> torch.Tensor:
    """[rows, vocabulary]: probabilities but for a factor; 0 for what a rule leaves out. No row is greedy."""
    weights = tempered_weights(logits, rows)
    steered = [index for index, row in enumerate(rows) if row.is_mirostat]
    if steered:
        chosen = weights[steered]
        weights[steered] = chosen * keep_mask(chosen, surprise_thresholds(chosen, [rows[i] for i in steered]))
    return _truncate(weights, [_NEUTRAL if row.is_mirostat else row.params for row in rows], kernels)


def tempered_weights(logits: torch.Tensor, rows: list[SampledRow]) -> torch.Tensor:
    """[rows, vocabulary]: probabilities before anything is left out, relative to the row's best, which is 1."""
    logits = logits.float()
    # Subtracting before dividing: the best logit becomes 0 and its weight 1, however small the temperature.
    # exp2 takes a third of the time of exp.
    exponents = _column([min(math.log2(math.e) / row.params.temperature, 1e30) for row in rows], logits.device)
    return (logits - logits.amax(dim=-1, keepdim=True)).mul_(exponents).exp2_()


def _truncate(weights: torch.Tensor, params: list[SamplingParams], kernels: SamplingKernels | None) -> torch.Tensor:
    typical = [index for index, p in enumerate(params) if p.typical_p < 1]
    if typical:
        weights[typical] = keep_typical(weights[typical], [params[index].typical_p for index in typical])
    truncated = [index for index, p in enumerate(params) if p.top_k > 0 or p.top_p < 1]
    if kernels is not None:
        if truncated or any(p.min_p > 0 for p in params):
            kernels.truncate(weights, params)
        return weights
    if len(truncated) == len(params):
        weights.mul_(keep_mask(weights, top_thresholds(weights, params)))
    elif truncated:
        threshold = torch.zeros(len(params), 1, device=weights.device)
        threshold[truncated] = top_thresholds(weights[truncated], [params[index] for index in truncated])
        weights.mul_(keep_mask(weights, threshold))
    if any(p.min_p > 0 for p in params):
        weights.mul_(keep_mask(weights, _column([p.min_p for p in params], weights.device)))
    return weights


def _column(values: list[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).unsqueeze(1)
