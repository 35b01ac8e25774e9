import numpy as np
import pytest
import torch

from runtime.llm.sampling.draw import draw, totals, uniforms


def test_uniform_numbers_differ_by_seed_and_by_position_and_fill_the_interval() -> None:
    numbers = uniforms([seed for seed in range(100) for _ in range(100)], list(range(100)) * 100)
    assert len(set(numbers.tolist())) == 10_000
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert float(((counts - 500) ** 2 / 500).sum()) < 43.8, "19 degrees of freedom: p = 0.001"
    assert uniforms([2**64 - 1], [2**40]) == uniforms([2**64 - 1], [2**40])


def test_uniform_numbers_are_stable_over_versions() -> None:
    assert uniforms([1, 2**64 - 1], [0, 7]).tolist() == [0.883177260938758, 0.7384499626807552]


@pytest.mark.parametrize("vocab_size", [1, 5, 511, 512, 513, 3000])
def test_a_draw_inverts_the_distribution_function(vocab_size: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.random((40, vocab_size)) * (rng.random((40, vocab_size)) < 0.3)
    weights[:, vocab_size // 2] = 0.5
    uniform = rng.random(40)
    uniform[:2] = [0.0, 1 - 2**-53]
    drawn = draw(torch.from_numpy(weights).float(), torch.from_numpy(uniform)).tolist()
    for index, token_id in enumerate(drawn):
        running = np.cumsum(weights[index] / weights[index].sum())
        assert weights[index, token_id] > 0
        assert running[token_id] >= uniform[index] - 1e-6
        assert running[token_id] - weights[index, token_id] / weights[index].sum() <= uniform[index] + 1e-6


def test_a_row_sums_up_the_same_in_any_batch() -> None:
    torch.manual_seed(4)
    weights = torch.rand(9, 20_000)
    alone = torch.cat([totals(weights[index : index + 1]) for index in range(9)])
    assert torch.equal(totals(weights), alone)
