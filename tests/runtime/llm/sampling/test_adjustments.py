import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import RepetitionPenaltyLogitsProcessor

from runtime.llm.sampling.adjustments import adjust
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.sampling.token_counts import TokenCounts
from runtime.submission import SamplingParams
from tests.runtime.llm.sampling import reference

VOCAB_SIZE = 70
PROMPT = [3, 9, 9, 40, 69]
OUTPUT = [9, 5, 5, 5, 60]


def bitmask(allowed: set[int], num_words: int) -> NDArray[np.int32]:
    words = np.zeros(num_words, dtype=np.uint32)
    for token_id in allowed:
        words[token_id // 32] |= np.uint32(1 << token_id % 32)
    return words.view(np.int32)


def row(
    mask: NDArray[np.int32] | None = None, prompt: list[int] = PROMPT, output: list[int] = OUTPUT, **params: Any
) -> SampledRow:
    sampling = SamplingParams(**params)
    counts = TokenCounts.of(sampling, prompt)
    if counts is not None:
        counts.catch_up(output)
    return SampledRow(sampling, 0, 0, None, mask, counts)


RULES: list[dict[str, Any]] = [
    {},
    {"logit_bias": {0: 100.0, 5: -100.0, 69: 0.5}},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"frequency_penalty": 0.7},
    {"frequency_penalty": -2.0},
    {"presence_penalty": 1.1},
    {"frequency_penalty": 0.3, "presence_penalty": -0.4, "repetition_penalty": 1.8, "logit_bias": {5: 3.0, 9: -3.0}},
]


@pytest.mark.parametrize("has_mask", [False, True])
def test_every_rule_is_its_formula_in_any_batch(has_mask: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(len(RULES), VOCAB_SIZE) * 3
    allowed = {0, 5, 9, 31, 32, 60, 63, 64, 69}
    mask = bitmask(allowed, 3) if has_mask else None
    adjusted = adjust(logits.clone(), [row(mask, **rules) for rules in RULES])
    for index, rules in enumerate(RULES):
        expected = reference.adjust(
            logits[index].tolist(),
            SamplingParams(**rules),
            prompt=PROMPT,
            output=OUTPUT,
            allowed=allowed if has_mask else None,
        )
        np.testing.assert_allclose(adjusted[index].numpy(), expected, rtol=1e-5, atol=1e-5)
        alone = adjust(logits[index : index + 1].clone(), [row(mask, **rules)])
        assert torch.equal(alone[0], adjusted[index])


@pytest.mark.parametrize("penalty", [0.5, 1.0001, 1.7])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    torch.manual_seed(2)
    logits = torch.randn(1, VOCAB_SIZE) * 5
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([PROMPT + OUTPUT]), logits.clone())
    assert torch.allclose(adjust(logits.clone(), [row(repetition_penalty=penalty)]), expected)


def test_a_row_behind_a_draft_sees_the_draft_as_output() -> None:
    torch.manual_seed(3)
    logits = torch.randn(3, VOCAB_SIZE)
    rules: dict[str, Any] = {"frequency_penalty": 0.5, "presence_penalty": 0.25, "repetition_penalty": 1.5}
    first = row(**rules)
    drafts: list[list[int]] = [[], [5], [5, 8, 8]]
    drafted = adjust(logits.clone(), [first._replace(draft_token_ids=draft) for draft in drafts])
    accepted = adjust(logits.clone(), [row(output=OUTPUT + draft, **rules) for draft in drafts])
    assert torch.allclose(drafted, accepted)


def test_a_mask_covers_just_the_vocabulary() -> None:
    logits = torch.zeros(4, VOCAB_SIZE)
    everything = set(range(VOCAB_SIZE))
    masks = [
        bitmask({2}, 1),  # shorter than the vocabulary: the rest may not come
        bitmask({2, VOCAB_SIZE + 1, 140}, 5),  # longer, with bits that stand for no token
        bitmask(everything, 3),
        bitmask({69}, 3),
    ]
    adjusted = adjust(logits, [row(mask) for mask in masks])
    kept = [set(torch.isfinite(own).nonzero().flatten().tolist()) for own in adjusted]
    assert kept == [{2}, {2}, everything, {69}]


def test_a_mask_that_leaves_nothing_is_not_applied() -> None:
    logits = torch.randn(3, VOCAB_SIZE)
    masks = [bitmask(set(), 3), bitmask({VOCAB_SIZE + 3}, 3), bitmask({1}, 3)]
    adjusted = adjust(logits.clone(), [row(mask) for mask in masks])
    assert torch.equal(adjusted[:2], logits[:2])
    assert torch.isfinite(adjusted[2]).sum() == 1


def test_what_is_forbidden_stays_forbidden() -> None:
    mask = bitmask({1, 2}, 3)
    rules: dict[str, Any] = {"logit_bias": {3: 100.0}, "frequency_penalty": -2.0, "repetition_penalty": 0.01}
    adjusted = adjust(torch.randn(1, VOCAB_SIZE), [row(mask, output=[3, 3, 4], **rules)])
    assert torch.isfinite(adjusted).nonzero()[:, 1].tolist() == [1, 2]


def test_numbers_that_are_none_stay_in_their_row() -> None:
    logits = torch.randn(3, VOCAB_SIZE)
    logits[1] = math.nan
    rows = [row(bitmask({1, 5}, 3), frequency_penalty=1.0, repetition_penalty=2.0) for _ in range(3)]
    adjusted = adjust(logits.clone(), rows)
    alone = adjust(logits[2:].clone(), rows[2:])
    assert torch.equal(adjusted[2], alone[0])
