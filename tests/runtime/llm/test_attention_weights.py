"""Weighing by itself, against scores written out in float64."""

import pytest
import torch

from runtime.llm import attention_weights
from runtime.llm.attention_weights import weigh
from runtime.llm.forward_context import Scoring
from tests.fakes.attention_requests import CASES, HEAD_SIZE, NUM_HEADS, Requests

NUM_QUERIES, NUM_KEYS = 5, 7


@pytest.mark.parametrize("has_sinks", [False, True])
@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize(("key_size", "value_size"), [(8, 8), (12, 8), (8, 12)])
def test_equals_scores_written_out(key_size: int, value_size: int, softcap: float | None, has_sinks: bool) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, NUM_QUERIES, key_size), torch.randn(2, 3, NUM_KEYS, key_size)
    value, sinks = torch.randn(2, 3, NUM_KEYS, value_size), torch.randn(2, 3, 1, 1)
    mask = torch.zeros(NUM_QUERIES, NUM_KEYS).masked_fill(torch.rand(NUM_QUERIES, NUM_KEYS) < 0.3, -torch.inf)
    mask[:, 0] = 0
    scoring = Scoring(0.3, softcap=softcap, sinks=sinks if has_sinks else None)
    found = weigh(query, key, value, mask, scoring, is_causal=False)
    scores = query.double() @ key.double().transpose(-1, -2) * 0.3
    scores = (scores if softcap is None else softcap * (scores / softcap).tanh()) + mask
    if has_sinks:
        scores = torch.cat((scores, sinks.double().expand(2, 3, NUM_QUERIES, 1)), dim=-1)
    expected = scores.softmax(dim=-1)[..., :NUM_KEYS] @ value.double()
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_capped_scores_of_a_long_chunk_are_written_out_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_weights, "_WRITTEN_SCORES_MAX", 200)
    for case in ("a fresh prompt", "a chunk after others"):
        requests = Requests(CASES[case])
        query = torch.randn(requests.num_tokens, NUM_HEADS, HEAD_SIZE)
        requests.store_computed(0)
        for window in (None, 5):
            output = requests.attend(query, 0, window, 0.5)
            assert torch.allclose(output.double(), requests.expected(query, window, 0.5), atol=1e-5)
