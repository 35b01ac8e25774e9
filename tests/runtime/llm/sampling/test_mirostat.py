import math

import numpy as np
import pytest
import torch

from runtime.llm.sampling.mirostat import current_mu, next_mu, surprise_thresholds, surprises
from runtime.llm.sampling.rows import SampledRow
from runtime.submission import SamplingParams


def row(mu: float | None = None, target: float = 3.0, rate: float = 0.1) -> SampledRow:
    return SampledRow(SamplingParams(mirostat_target=target, mirostat_lr=rate), 0, 0, None, mirostat_mu=mu)


def relative(*shares: float) -> torch.Tensor:
    return torch.tensor([shares]) / max(shares)


def thresholds(weights: torch.Tensor, own: SampledRow) -> torch.Tensor:
    return surprise_thresholds(weights, torch.tensor([[current_mu(own)]], dtype=torch.float64))


def next_mus(weights: torch.Tensor, rows: list[SampledRow], token_ids: list[int]) -> list[float]:
    found = surprises(weights, torch.tensor(token_ids)).tolist()
    return [next_mu(own, surprise) for own, surprise in zip(rows, found, strict=True)]


def test_tokens_of_more_surprise_than_mu_fall_below_the_threshold() -> None:
    weights = relative(0.5, 0.25, 0.125, 0.125)
    for mu, num_kept in [(3.01, 4), (2.99, 2), (1.99, 1), (0.0, 1), (-5.0, 1), (-5000.0, 1), (5000.0, 4)]:
        threshold = thresholds(weights, row(mu))
        assert int((weights >= threshold).sum()) == num_kept, mu


def test_mu_starts_at_twice_the_target() -> None:
    weights = relative(0.5, 0.25, 0.125, 0.125)
    assert torch.equal(thresholds(weights, row(target=1.25)), thresholds(weights, row(mu=2.5)))


def test_mu_moves_against_the_error() -> None:
    weights = torch.cat([relative(0.5, 0.25, 0.25), relative(0.5, 0.25, 0.25)])
    mus = next_mus(weights, [row(5.0, target=3.0, rate=0.5), row(5.0, target=1.0, rate=0.5)], [0, 1])
    assert mus == pytest.approx([5.0 - 0.5 * (1 - 3), 5.0 - 0.5 * (2 - 1)])


def test_logits_that_are_no_numbers_leave_mu_as_it_was() -> None:
    weights = torch.tensor([[math.nan, math.nan], [1.0, 0.0]])
    assert next_mus(weights, [row(4.0), row(4.0)], [1, 1]) == [4.0, 4.0]


def test_surprise_settles_at_the_target() -> None:
    rng = np.random.default_rng(2)
    shares = 1 / np.arange(1, 2001) ** 1.1
    weights = torch.from_numpy(shares).float().unsqueeze(0)
    surprise = -np.log2(shares / shares.sum())
    mu: float | None = None
    observed = []
    for _ in range(400):
        kept = np.where(shares >= float(thresholds(weights, row(mu, target=4.0))), shares, 0)
        token_id = int(rng.choice(len(shares), p=kept / kept.sum()))
        observed.append(surprise[token_id])
        (mu,) = next_mus(weights, [row(mu, target=4.0)], [token_id])
    assert np.mean(observed[100:]) == pytest.approx(4.0, abs=0.4)
