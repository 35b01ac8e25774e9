"""The back end of GPUs against the gathered one, and each request alone against itself among others."""

from pathlib import Path

import msgspec
import pytest
import torch

from models.info import AttentionInfo, LatentInfo
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.attention_triton import TritonAttention, choose_tilings
from runtime.llm.forward_context import Scoring
from runtime.llm.fp8 import has_fp8
from tests.fakes.attended_model import AttendedModel, what_it_says
from tests.fakes.attention_requests import BLOCK_SIZE, CASES, SHAPE, Requests
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import build_tiny_model
from tests.fakes.triton_device import DEVICE, IS_INTERPRETED

WINDOW = 6
TWO_KINDS = msgspec.structs.replace(SHAPE, sliding_window=WINDOW, full_attention_layers=[1])
"""As in Gemma: layers with a window, and others without."""


def make_requests(spans: list[tuple[int, int]], shape: AttentionInfo = TWO_KINDS) -> Requests:
    requests = Requests(spans, shape, backend=TritonAttention, device=DEVICE)
    for layer in range(shape.num_layers):
        requests.store_computed(layer)
    return requests


def test_layers_with_a_window_and_without_equal_the_gathered_back_end() -> None:
    requests = make_requests(CASES["everything at once"])
    gathering = Requests(CASES["everything at once"], TWO_KINDS, device=DEVICE)
    query = requests.queries()
    for layer in range(TWO_KINDS.num_layers):
        gathering.store_computed(layer)
        window = TWO_KINDS.window(layer)
        output, expected = (one.attend(query, layer, window) for one in (requests, gathering))
        assert torch.allclose(output, expected, atol=1e-5)
        assert torch.equal(requests.backend.caches[layer], gathering.backend.caches[layer])


def test_a_window_that_the_description_does_not_have_is_gathered() -> None:
    requests = make_requests([(5, 1), (2, 3)])
    query = requests.queries()
    output = requests.attend(query, 0, 3)
    assert torch.allclose(output.cpu().double(), requests.expected(query, 3), atol=1e-5)
    assert torch.equal(requests.attend(query, 0, 3), output)
    sinks = requests.sinks()
    output = requests.attend(query, 0, 3, sinks=sinks)
    assert torch.allclose(output.cpu().double(), requests.expected(query, 3, sinks=sinks), atol=1e-5)


def test_what_stands_in_other_blocks_or_unused_slots_never_matters() -> None:
    requests = make_requests(CASES["everything at once"])
    query = requests.queries()
    requests.backend.caches[1][BLOCK_SIZE:] = float("nan")
    requests.store_computed(1)
    output = requests.attend(query, 1, None)
    assert torch.allclose(output.cpu().double(), requests.expected(query, None), atol=1e-5)


def test_a_request_alone_gives_what_it_gives_in_a_batch_to_the_bit() -> None:
    shape = msgspec.structs.replace(SHAPE, num_layers=1, num_heads=2, num_kv_heads=1)
    requests = make_requests([(530, 1), (3, 1), (270, 3), (40, 12)], shape)
    query = requests.queries()
    together = requests.attend(query, 0, None)
    for span, keys, values in zip(requests.spans, requests.keys, requests.values, strict=True):
        rows = slice(span.start, span.start + span.num_tokens)
        new = slice(span.num_computed_tokens, None)
        alone = requests.backend.prepare([span._replace(start=0)]).attend(
            0, query[rows], keys[new], values[new], Scoring(0.3)
        )
        assert torch.equal(alone, together[rows])


@pytest.mark.parametrize(
    ("num_heads", "head_size", "value_head_size", "shared_kib", "few", "many"),
    [
        (4, 128, 128, 227, (16, 64, 3), (128, 64, 3)),
        (4, 128, 128, 99, (16, 32, 2), (128, 64, 2)),
        (2, 256, 256, 227, (16, 32, 2), (128, 64, 2)),
        (1, 192, 128, 99, (16, 16, 2), (64, 32, 2)),
        (71, 64, 64, 227, (128, 64, 3), (128, 64, 3)),
    ],
)
def test_tiles_are_as_large_as_a_device_has_memory_for(
    num_heads: int,
    head_size: int,
    value_head_size: int,
    shared_kib: int,
    few: tuple[int, int, int],
    many: tuple[int, int, int],
) -> None:
    shape = AttentionInfo(
        num_layers=1, num_heads=num_heads, num_kv_heads=1, head_size=head_size, value_head_size=value_head_size
    )
    tilings = choose_tilings(shape, torch.bfloat16, shared_kib * 1024)
    assert [(one.num_rows, one.num_keys, one.num_stages) for one in tilings] == [few, many]


@pytest.mark.parametrize(
    ("shared_kib", "few", "many"),
    [(227, (16, 32, 2), (64, 32, 2)), (163, (16, 32, 2), (64, 32, 2)), (99, (16, 32, 2), (32, 16, 2))],
)
def test_tiles_of_latents_take_some_of_the_heads(
    shared_kib: int, few: tuple[int, int, int], many: tuple[int, int, int]
) -> None:
    heads = AttentionInfo(num_layers=1, num_heads=128, num_kv_heads=128, head_size=192, value_head_size=128)
    shape = msgspec.structs.replace(heads, latent=LatentInfo(size=512, rotated_size=64)).compressed()
    tilings = choose_tilings(shape, torch.bfloat16, shared_kib * 1024)
    assert [(one.num_rows, one.num_keys, one.num_stages) for one in tilings] == [few, many]
    tilings = choose_tilings(shape, torch.float32, shared_kib * 1024)
    assert [(one.num_rows, one.num_keys) for one in tilings] == [(16, 16), (32, 32) if shared_kib > 200 else (16, 16)]


def test_tiles_of_float32_are_small() -> None:
    tilings = choose_tilings(SHAPE, torch.float32, 227 * 1024)
    assert [(one.num_rows, one.num_keys) for one in tilings] == [(16, 16), (32, 32)]


def test_trials_need_every_kernel() -> None:
    backend = make_requests([(0, 1)], SHAPE).backend
    assert isinstance(backend, TritonAttention)
    needed = [backend.plan([Span(0, now, before, [1] * 100)]).counts for before, now in backend.trial_spans]
    assert all(max(counts) for counts in list(zip(*needed, strict=True))[:3])


@pytest.mark.skipif(not IS_INTERPRETED, reason="tiny models are on the CPU")
def test_a_model_says_the_same(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    models = TinyModel(directory), AttendedModel(directory, TritonAttention)
    said, expected = (what_it_says(model, 11, 3) for model in models)
    assert said == expected


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
@pytest.mark.parametrize(("num_heads", "head_size"), [(32, 128), (14, 64), (16, 256), (24, 80)])
def test_the_tiles_of_a_device_equal_the_gathered_back_end(num_heads: int, head_size: int) -> None:
    spans = [(5000, 1), (900, 3), (0, 700), (300, 200), (255, 1), (0, 1)]
    shape = AttentionInfo(
        num_layers=1,
        num_heads=num_heads,
        num_kv_heads=num_heads // 2,
        head_size=head_size,
        value_head_size=head_size,
        sliding_window=512,
        full_attention_layers=[0],
    )
    for window in (None, 512):
        shape = msgspec.structs.replace(shape, full_attention_layers=[] if window else [0])
        both = [
            Requests(spans, shape, backend=backend, block_size=32, dtype=torch.bfloat16, device=DEVICE)
            for backend in (TritonAttention, GatherAttention)
        ]
        query = both[0].queries()
        for requests in both:
            requests.store_computed(0)
        output, expected = (requests.attend(query, 0, window, 30.0 if head_size == 256 else None) for requests in both)
        assert torch.allclose(output.float(), expected.float(), atol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("num_heads", [16, 128])
def test_the_tiles_of_latents_equal_the_gathered_back_end(num_heads: int, is_fp8: bool) -> None:
    if is_fp8 and not has_fp8(DEVICE):
        pytest.skip("this GPU has no 8-bit floats")
    heads = AttentionInfo(num_layers=1, num_heads=num_heads, num_kv_heads=num_heads, head_size=192, value_head_size=128)
    shape = msgspec.structs.replace(heads, latent=LatentInfo(size=512, rotated_size=64)).compressed()
    both = [
        Requests(
            [(5000, 1), (900, 3), (0, 700), (300, 200), (255, 1), (0, 1)],
            shape,
            backend=backend,
            block_size=32,
            dtype=torch.bfloat16,
            device=DEVICE,
            is_fp8=is_fp8,
        )
        for backend in (TritonAttention, GatherAttention)
    ]
    query = both[0].queries() / 8  # scores of 576 products are large
    for requests in both:
        requests.store_computed(0)
    output, expected = (requests.attend(query, 0, None) for requests in both)
    assert torch.allclose(output.float(), expected.float(), atol=3e-2)


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
def test_nobody_waits_for_the_device() -> None:
    requests = make_requests(CASES["everything at once"])
    query = requests.queries()
    requests.attend(query, 0, WINDOW)
    torch.cuda.set_sync_debug_mode("error")
    try:
        requests.attend(query, 0, WINDOW)
    finally:
        torch.cuda.set_sync_debug_mode("default")
