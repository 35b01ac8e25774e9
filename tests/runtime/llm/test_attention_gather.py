"""Every way of attending against one written out slowly: per request, per head, in float64."""

import itertools

import pytest
import torch

from models.info import AttentionInfo
from runtime.llm import attention_gather
from runtime.llm.attention_gather import GatherAttention, Span, group_by_length

BLOCK_SIZE = 4
NUM_HEADS, NUM_KV_HEADS, HEAD_SIZE = 6, 2, 8
SHAPE = AttentionInfo(
    num_layers=2, num_heads=NUM_HEADS, num_kv_heads=NUM_KV_HEADS, head_size=HEAD_SIZE, value_head_size=HEAD_SIZE
)
SCALING = 0.3


class Requests:
    """Keys and values of some requests, of which a step computes the last few tokens each."""

    def __init__(self, spans: list[tuple[int, int]], shape: AttentionInfo = SHAPE) -> None:
        """`spans` are (already computed, computed now)."""
        torch.manual_seed(0)
        self.shape = shape
        self.backend = GatherAttention(
            shape, num_blocks=600, block_size=BLOCK_SIZE, dtype=torch.float32, device=torch.device("cpu")
        )
        self.keys = [torch.randn(sum(span), shape.num_kv_heads, shape.head_size) for span in spans]
        self.values = [torch.randn(sum(span), shape.num_kv_heads, shape.value_head_size) for span in spans]
        block_ids = iter(torch.randperm(599).add(1).tolist())
        starts = itertools.accumulate((now for _, now in spans), initial=0)
        self.spans = [
            Span(start, now, before, list(itertools.islice(block_ids, -(-(before + now) // BLOCK_SIZE))))
            for start, (before, now) in zip(starts, spans, strict=False)
        ]

    def store_computed(self, layer: int) -> None:
        """What earlier steps have written."""
        for span, keys, values in zip(self.spans, self.keys, self.values, strict=True):
            for position in range(span.num_computed_tokens):
                slot = span.block_ids[position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE
                self.backend.caches[layer][slot] = torch.cat((keys[position], values[position]), dim=-1)

    def attend(self, query: torch.Tensor, layer: int, window: int | None, softcap: float | None = None) -> torch.Tensor:
        key, value = (
            torch.cat([own[span.num_computed_tokens :] for span, own in zip(self.spans, tensors, strict=True)])
            for tensors in (self.keys, self.values)
        )
        step = self.backend.prepare(self.spans)
        return step.attend(layer, query, key, value, scaling=SCALING, sliding_window=window, softcap=softcap)

    def expected(self, query: torch.Tensor, window: int | None, softcap: float | None = None) -> torch.Tensor:
        num_heads, shape = query.shape[1], self.shape
        output = torch.zeros(query.shape[0], num_heads, shape.value_head_size, dtype=torch.float64)
        for span, keys, values in zip(self.spans, self.keys, self.values, strict=True):
            for i in range(span.num_tokens):
                position = span.num_computed_tokens + i
                first = 0 if window is None else max(0, position - window + 1)
                for head in range(num_heads):
                    kv_head = head * shape.num_kv_heads // num_heads
                    visible = keys[first : position + 1, kv_head].double()
                    scores = visible @ query[span.start + i, head].double() * SCALING
                    weights = (softcap * (scores / softcap).tanh() if softcap else scores).softmax(dim=0)
                    output[span.start + i, head] = weights @ values[first : position + 1, kv_head].double()
        return output

    @property
    def num_tokens(self) -> int:
        return sum(span.num_tokens for span in self.spans)


CASES = {
    "one decode": [(9, 1)],
    "decodes of equal length": [(8, 1), (8, 1), (8, 1)],
    "decodes of different length": [(1, 1), (13, 1), (4, 1), (0, 1)],
    "a fresh prompt": [(0, 11)],
    "a chunk after others": [(7, 6)],
    "everything at once": [(12, 1), (3, 1), (0, 9), (8, 4), (2, 1), (0, 1), (5, 2)],
}


@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize("case", CASES)
def test_equals_attention_written_out(case: str, window: int | None) -> None:
    requests = Requests(CASES[case])
    query = torch.randn(requests.num_tokens, NUM_HEADS, HEAD_SIZE)
    for layer in range(SHAPE.num_layers):
        requests.store_computed(layer)
        output = requests.attend(query, layer, window)
        assert torch.allclose(output.double(), requests.expected(query, window), atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(
    ("num_kv_heads", "head_size", "value_head_size"), [(1, 8, 8), (2, 12, 8), (2, 8, 12), (1, 256, 256), (6, 6, 2)]
)
def test_shapes_of_every_family(
    num_kv_heads: int, head_size: int, value_head_size: int, window: int | None, softcap: float | None
) -> None:
    shape = AttentionInfo(
        num_layers=1,
        num_heads=NUM_HEADS,
        num_kv_heads=num_kv_heads,
        head_size=head_size,
        value_head_size=value_head_size,
    )
    for case in CASES.values():
        requests = Requests(case, shape)
        query = torch.randn(requests.num_tokens, NUM_HEADS, head_size)
        requests.store_computed(0)
        output = requests.attend(query, 0, window, softcap)
        assert output.shape == (requests.num_tokens, NUM_HEADS, value_head_size)
        assert torch.allclose(output.double(), requests.expected(query, window, softcap), atol=1e-4)


def test_capped_scores_of_a_long_chunk_are_written_out_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_gather, "_WRITTEN_SCORES_MAX", 200)
    for case in ("a fresh prompt", "a chunk after others"):
        requests = Requests(CASES[case])
        query = torch.randn(requests.num_tokens, NUM_HEADS, HEAD_SIZE)
        requests.store_computed(0)
        for window in (None, 5):
            output = requests.attend(query, 0, window, 0.5)
            assert torch.allclose(output.double(), requests.expected(query, window, 0.5), atol=1e-5)


def test_long_and_short_decodes_are_attended_to_in_groups() -> None:
    requests = Requests([(2, 1), (150, 1), (3, 1)])
    spans = [
        span._replace(num_computed_tokens=length) for span, length in zip(requests.spans, (10, 3000, 20), strict=True)
    ]
    groups = group_by_length(spans, window=None)
    assert [[span.num_keys for span in group] for group in groups] == [[3001], [11, 21]]
    assert len(group_by_length(spans, window=16)) == 1


def test_groups_equal_attention_written_out() -> None:
    requests = Requests([(2, 1), (1100, 1), (0, 5), (3, 1), (1090, 1)])
    query = torch.randn(requests.num_tokens, NUM_HEADS, HEAD_SIZE)
    requests.store_computed(0)
    assert torch.allclose(requests.attend(query, 0, None).double(), requests.expected(query, None), atol=1e-5)


def test_what_stands_in_other_blocks_or_unused_slots_never_matters() -> None:
    requests = Requests(CASES["everything at once"])
    query = torch.randn(requests.num_tokens, NUM_HEADS, HEAD_SIZE)
    requests.backend.caches[0][BLOCK_SIZE:] = float("nan")
    requests.store_computed(0)
    assert torch.allclose(requests.attend(query, 0, None).double(), requests.expected(query, None), atol=1e-5)
