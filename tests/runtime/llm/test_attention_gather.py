"""Every way of attending against one written out slowly."""

import pytest
import torch

from models.info import AttentionInfo
from runtime.llm.attention_gather import group_by_length
from runtime.llm.forward_context import Scoring
from tests.fakes.attention_requests import BLOCK_SIZE, CASES, HEAD_SIZE, LATENT_SHAPE, NUM_HEADS, SHAPE, Requests


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


@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("shape", [SHAPE, LATENT_SHAPE], ids=["heads", "latents"])
@pytest.mark.parametrize("case", CASES)
def test_sinks_take_weight_and_give_nothing(
    case: str, shape: AttentionInfo, window: int | None, softcap: float | None
) -> None:
    requests = Requests(CASES[case], shape)
    query, sinks = requests.queries(), requests.sinks()
    requests.store_computed(0)
    output = requests.attend(query, 0, window, softcap, sinks)
    assert torch.allclose(output.double(), requests.expected(query, window, softcap, sinks), atol=1e-5)


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


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("shape", [SHAPE, LATENT_SHAPE], ids=["heads", "latents"])
@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_latents_and_8_bit_floats(case: str, shape: AttentionInfo, window: int | None, is_fp8: bool) -> None:
    requests = Requests(CASES[case], shape, is_fp8=is_fp8)
    query = requests.queries()
    requests.store_computed(0)
    output = requests.attend(query, 0, window)
    assert output.is_contiguous()
    assert torch.allclose(output.double(), requests.expected(query, window), atol=1e-5)


def test_what_is_stored_in_8_bit_floats_takes_that_many_bytes() -> None:
    numbers, small = (Requests([(0, 1)], is_fp8=is_fp8).backend for is_fp8 in (False, True))
    num_keys = numbers.size_bytes // (2 * HEAD_SIZE * 4)
    assert small.size_bytes == num_keys * (2 * HEAD_SIZE + 2 * 4)
    small.release()
    assert (small.caches, small.scales) == ((), ())
    small.allocate()
    assert not any(scales.any() for scales in small.scales)


def test_a_chunk_sees_what_a_whole_prompt_sees_of_8_bit_floats() -> None:
    whole, chunks = (Requests([(0, 9)], is_fp8=True) for _ in range(2))
    query = whole.queries()
    expected = whole.attend(query, 0, None)
    found = []
    for start, stop in ((0, 4), (4, 9)):
        step = chunks.backend.prepare([chunks.spans[0]._replace(num_computed_tokens=start, num_tokens=stop - start)])
        keys, values = chunks.keys[0][start:stop], chunks.values[0][start:stop]
        found.append(step.attend(0, query[start:stop], keys, values, Scoring(0.3)))
    assert torch.allclose(torch.cat(found), expected, atol=1e-6)
