"""The attention kernels with tiles of every kind against attention written out slowly."""

import msgspec
import pytest
import torch
import triton

from models.info import AttentionInfo
from runtime.llm import attention_work
from runtime.llm.attention_triton import Tilings, TritonAttention
from runtime.llm.attention_work import Tiling
from tests.fakes.attention_requests import CASES, LATENT_SHAPE, SHAPE, Requests
from tests.fakes.triton_device import DEVICE

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""bfloat16 rounds the weights, too, to 8 bits."""

LONG = [(70, 1), (45, 3), (37, 20)]
"""Several segments, of which some rows see none; tiles that a request does not fill, and a chunk of two tiles."""


def make_requests(
    spans: list[tuple[int, int]],
    shape: AttentionInfo = SHAPE,
    *,
    window: int | None = None,
    block_size: int = 4,
    dtype: torch.dtype = torch.float32,
    is_fp8: bool = False,
) -> Requests:
    shape = msgspec.structs.replace(shape, sliding_window=window)
    requests = Requests(
        spans, shape, backend=TritonAttention, block_size=block_size, dtype=dtype, device=DEVICE, is_fp8=is_fp8
    )
    assert isinstance(requests.backend, TritonAttention)
    num_rows = max(16, triton.next_power_of_2(shape.num_heads // shape.num_kv_heads))
    requests.backend.tilings = Tilings(Tiling(num_rows, 16, 1, 1), Tiling(2 * num_rows, 16, 1, 1))
    requests.store_computed(0)
    return requests


def check(requests: Requests, softcap: float | None = None, *, has_sinks: bool = False) -> None:
    query, window = requests.queries(), requests.shape.sliding_window
    sinks = requests.sinks() if has_sinks else None
    output = requests.attend(query, 0, window, softcap, sinks)
    assert output.dtype == query.dtype
    assert output.is_contiguous()
    expected = requests.expected(query, window, softcap, sinks)
    assert torch.allclose(output.cpu().double(), expected, atol=TOLERANCE[query.dtype], rtol=0)


@pytest.fixture
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_work, "SEGMENT_KEYS_MIN", 16)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (None, 0.5)])
def test_everything_at_once(window: int | None, softcap: float | None, dtype: torch.dtype) -> None:
    check(make_requests(CASES["everything at once"], window=window, dtype=dtype), softcap)


@pytest.mark.usefixtures("_short_segments")
@pytest.mark.parametrize(("window", "softcap", "block_size"), [(None, 0.5, 4), (40, None, 32)])
def test_keys_in_segments(window: int | None, softcap: float | None, block_size: int) -> None:
    shape = msgspec.structs.replace(SHAPE, num_heads=2, num_kv_heads=1)
    check(make_requests(LONG, shape, window=window, block_size=block_size), softcap)


@pytest.mark.usefixtures("_short_segments")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (40, None), (None, 0.5)])
def test_sinks_count_once_however_many_segments_keys_are_in(
    window: int | None, softcap: float | None, dtype: torch.dtype
) -> None:
    shape = msgspec.structs.replace(SHAPE, num_heads=4, num_kv_heads=2)
    check(make_requests([*LONG, (3, 1), (0, 5)], shape, window=window, dtype=dtype), softcap, has_sinks=True)


@pytest.mark.usefixtures("_short_segments")
@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_size", "value_head_size"),
    [(1, 1, 64, 64), (7, 1, 80, 80), (4, 4, 24, 16), (6, 2, 16, 24), (40, 2, 8, 8)],
)
def test_shapes_of_every_family(num_heads: int, num_kv_heads: int, head_size: int, value_head_size: int) -> None:
    shape = AttentionInfo(
        num_layers=1,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_size=head_size,
        value_head_size=value_head_size,
    )
    check(make_requests([(35, 1), (3, 10)], shape, block_size=8))


@pytest.mark.parametrize(("window", "softcap", "dtype"), [(None, None, torch.bfloat16), (5, 0.5, torch.float32)])
def test_keys_and_values_in_8_bit_floats(window: int | None, softcap: float | None, dtype: torch.dtype) -> None:
    check(make_requests(CASES["everything at once"], window=window, dtype=dtype, is_fp8=True), softcap)


@pytest.mark.usefixtures("_short_segments")
@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("num_heads", [5, 24])
def test_keys_that_begin_with_their_values(num_heads: int, is_fp8: bool) -> None:
    """24 heads are more than a tile has rows: they are divided unevenly."""
    shape = msgspec.structs.replace(LATENT_SHAPE, num_heads=num_heads)
    requests = make_requests([(35, 1), (3, 3), (0, 10)], shape, is_fp8=is_fp8)
    assert isinstance(requests.backend, TritonAttention)
    requests.backend.tilings = Tilings(Tiling(16, 16, 1, 1), Tiling(16, 16, 1, 1))
    check(requests)
    check(requests, has_sinks=True)
