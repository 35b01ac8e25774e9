import numpy as np
import pytest
import torch

from runtime.llm.sampling.truncation import keep_mask, keep_typical, top_thresholds
from tests.runtime.llm.sampling import reference

TIE = 2e-6
"""Of surprises of about 8.5 nats in float32: two of their last bits."""


def relative(logits: torch.Tensor) -> torch.Tensor:
    return (logits - logits.amax(dim=-1, keepdim=True)).exp()


def kept(weights: torch.Tensor, *, top_k: int = 0, top_p: float = 2.0) -> list[set[int]]:
    num_rows = len(weights)
    threshold = top_thresholds(weights, torch.tensor([top_k] * num_rows), torch.tensor([top_p] * num_rows))
    return [set(row.nonzero().flatten().tolist()) for row in keep_mask(weights, threshold)]


def mass(share: float) -> torch.Tensor:
    return torch.tensor([share], dtype=torch.float64)


def test_top_k_keeps_all_that_tie_with_the_last() -> None:
    assert kept(relative(torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])), top_k=2) == [{0, 1, 2, 3}]


def test_top_p_keeps_the_token_that_reaches_it() -> None:
    shares = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    for top_p, num_kept in [(1e-9, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.94, 3), (0.96, 4)]:
        assert kept(shares / 0.5, top_p=top_p) == [set(range(num_kept))], top_p


def test_top_p_is_a_share_of_what_top_k_leaves() -> None:
    shares = torch.tensor([[0.4, 0.3, 0.2, 0.1]]) / 0.4
    assert kept(shares, top_k=2, top_p=0.5) == [{0}], "0.4 of 0.7 are more than a half"
    assert kept(shares, top_p=0.5) == [{0, 1}]


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 5.0], ids=lambda spread: f"spread {spread}")
def test_all_circles_of_candidates_give_the_same(spread: float) -> None:
    """A flat row needs all of the vocabulary, a steep one the first few."""
    torch.manual_seed(5)
    weights = relative(torch.randn(3, 5000) * spread)
    for index, shares in enumerate(weights.double() / weights.double().sum(dim=-1, keepdim=True)):
        own = weights[index : index + 1]
        assert kept(own, top_p=0.6)[0] == set(reference.top_p(shares.numpy(), 0.6).nonzero()[0])
        assert kept(own, top_k=2500)[0] == set(reference.top_k(shares.numpy(), 2500).nonzero()[0])
        expected = reference.typical(shares.numpy(), 0.6)
        found = keep_typical(own, mass(0.6))[0].double().numpy()
        alike = (found > 0) == (expected > 0)
        both = found * expected > 0
        np.testing.assert_allclose(found[both] / found[both].sum(), expected[both] / expected[both].sum(), rtol=1e-4)
        surprises = -np.log(shares.numpy())
        distances = abs(surprises - (shares.numpy() * surprises).sum())
        assert (abs(distances[~alike] - distances[both].max()) < TIE).all(), "float32 tells no nearer ones apart"


def test_a_mass_of_nothing_keeps_the_most_typical_token() -> None:
    weights = torch.tensor([[0.6, 0.2, 0.1, 0.1]]) / 0.6
    # The entropy is 1.09 nats: 0.2 with 1.6 is nearer to it than 0.6 with 0.51.
    assert keep_typical(weights, mass(0.0)).nonzero()[:, 1].tolist() == [1]


def test_what_is_typical_is_relative_to_its_best_again() -> None:
    weights = torch.tensor([[0.6, 0.2, 0.1, 0.1]]) / 0.6
    assert keep_typical(weights, mass(0.1)).max() == 1


def test_what_was_left_out_before_stays_out() -> None:
    weights = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.5]])
    assert set(keep_typical(weights, mass(0.999999)).nonzero()[:, 1].tolist()) <= {0, 2, 4}
    assert kept(weights, top_k=4, top_p=0.999999)[0] <= {0, 2, 4}
