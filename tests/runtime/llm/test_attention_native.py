"""The back end of CPUs in bfloat16 against attention written out slowly."""

import msgspec
import pytest
import torch

from models.info import AttentionInfo
from runtime.llm.attention_native import NativeAttention, suits_native
from runtime.llm.forward_context import Scoring
from tests.fakes.attention_requests import CASES, CPU, LATENT_SHAPE, SHAPE, Requests
from tests.fakes.native import needs_native

LONG = "longer than what is taken at once"
SPANS = CASES | {LONG: [(200, 1), (63, 1), (64, 1), (130, 70), (0, 150), (127, 2)]}


def shape_of(num_heads: int, num_kv_heads: int, head_size: int) -> AttentionInfo:
    return AttentionInfo(
        num_layers=1,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_size=head_size,
        value_head_size=head_size,
    )


def make_requests(case: str, shape: AttentionInfo = SHAPE) -> Requests:
    requests = Requests(SPANS[case], shape, backend=NativeAttention, dtype=torch.bfloat16)
    for layer in range(shape.num_layers):
        requests.store_computed(layer)
    return requests


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=2**-7, atol=2**-6)


@needs_native
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize("case", SPANS)
def test_equals_attention_written_out(case: str, window: int | None, softcap: float | None) -> None:
    requests = make_requests(case)
    query = requests.queries()
    for layer in range(SHAPE.num_layers):
        assert_close(requests.attend(query, layer, window, softcap), requests.expected(query, window, softcap))


@needs_native
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_size"),
    [(1, 1, 2), (14, 2, 64), (4, 4, 80), (64, 1, 16), (6, 3, 96), (32, 8, 128), (4, 1, 256), (3, 3, 34)],
)
def test_shapes_of_every_family(num_heads: int, num_kv_heads: int, head_size: int) -> None:
    shape = shape_of(num_heads, num_kv_heads, head_size)
    for case in ("everything at once", LONG):
        requests = make_requests(case, shape)
        query = requests.queries()
        for window in (None, 70):
            assert_close(requests.attend(query, 0, window), requests.expected(query, window))


@needs_native
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("window", [None, 70])
def test_sinks_take_weight_and_give_nothing(window: int | None, dtype: torch.dtype) -> None:
    for shape in (SHAPE, shape_of(14, 2, 64)):
        requests = make_requests(LONG, shape)
        query, sinks = requests.queries(), requests.sinks().to(dtype)
        for softcap in (None, 0.5):
            output = requests.attend(query, 0, window, softcap, sinks)
            assert_close(output, requests.expected(query, window, softcap, sinks))


@needs_native
@pytest.mark.usefixtures("instructions")
def test_what_stands_in_other_blocks_or_unused_slots_never_matters() -> None:
    clean, dirty = make_requests(LONG), make_requests(LONG)
    for cache in dirty.backend.caches:
        cache.fill_(float("nan"))
    for layer in range(SHAPE.num_layers):
        dirty.store_computed(layer)
    query = clean.queries()
    for window in (None, 5):
        assert torch.equal(clean.attend(query, 0, window), dirty.attend(query, 0, window))


@needs_native
@pytest.mark.usefixtures("instructions")
def test_a_token_is_the_same_to_the_bit_whatever_is_computed_with_it() -> None:
    requests = make_requests(LONG)
    query = requests.queries()
    together = requests.attend(query, 0, None)
    for span, keys, values in zip(requests.spans, requests.keys, requests.values, strict=True):
        for first in range(0, span.num_tokens, 7):
            num_tokens = min(7, span.num_tokens - first)
            begin = span.num_computed_tokens + first
            step = requests.backend.prepare([span._replace(start=0, num_tokens=num_tokens, num_computed_tokens=begin)])
            own, new = slice(span.start + first, span.start + first + num_tokens), slice(begin, begin + num_tokens)
            alone = step.attend(0, query[own], keys[new], values[new], Scoring(0.3))
            assert torch.equal(alone, together[own])


@needs_native
@pytest.mark.usefixtures("instructions")
def test_strides_do_not_matter() -> None:
    requests = make_requests("everything at once")
    query = requests.queries()
    expected = requests.attend(query, 0, None)
    assert torch.equal(requests.attend(query.transpose(0, 1).contiguous().transpose(0, 1), 0, None), expected)


def test_other_dtypes_devices_and_shapes_are_not_for_it() -> None:
    def suits(shape: AttentionInfo = SHAPE, dtype: torch.dtype = torch.bfloat16, is_fp8: bool = False) -> bool:
        return suits_native(shape, dtype, CPU, is_fp8=is_fp8)

    assert not suits(dtype=torch.float32)
    assert not suits(is_fp8=True)
    assert not suits(LATENT_SHAPE)
    assert not suits(msgspec.structs.replace(SHAPE, value_head_size=16))
    for num_heads, head_size in ((4, 257), (4, 258), (65, 64)):
        assert not suits(shape_of(num_heads, 1, head_size))
    assert not suits_native(SHAPE, torch.bfloat16, torch.device("cuda"), is_fp8=False)
