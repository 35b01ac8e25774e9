import numpy as np
import pytest
import torch

from runtime.llm.staging import Array, Layout, Staging
from tests.fakes.triton_device import DEVICE, IS_INTERPRETED


def arrays(length: int) -> list[Array]:
    return [
        np.arange(length, dtype=np.int64),
        np.arange(3 * length, dtype=np.int32).reshape(length, 3)[:, ::-1],
        np.empty(0, dtype=np.int32),
        np.arange(length + 1, dtype=np.int32),
    ]


@pytest.mark.parametrize("length", [1, 5, 4096])
def test_arrays_arrive_as_they_were(length: int) -> None:
    staging = Staging(DEVICE)
    sent = [np.ascontiguousarray(array) for array in arrays(length)]
    for _ in range(5):
        for array, tensor in zip(sent, staging.bring(sent), strict=True):
            assert np.array_equal(tensor.cpu().numpy(), array)


def test_places_begin_where_triton_takes_them_for_aligned_and_never_overlap() -> None:
    sent = [np.ascontiguousarray(array) for array in arrays(5)]
    layout = Layout.of(sent)
    views = layout.views(torch.zeros(layout.num_bytes, dtype=torch.uint8))
    for number, view in enumerate(views):
        assert view.storage_offset() * view.element_size() % 16 == 0
        view.fill_(number + 1)
    assert all((view == number + 1).all() for number, view in enumerate(views))


def test_a_shorter_last_array_leaves_what_is_behind_it() -> None:
    full: list[Array] = [np.arange(3, dtype=np.int64), np.arange(8, dtype=np.int32)]
    layout = Layout.of(full)
    memory = torch.zeros(layout.num_bytes, dtype=torch.uint8, device=DEVICE)
    staging = Staging(DEVICE)
    staging.bring_into(memory, layout, full)
    staging.bring_into(memory, layout, [full[0] + 10, np.full(2, 7, dtype=np.int32)])
    first, last = layout.views(memory)
    assert first.tolist() == [10, 11, 12]
    assert last.tolist() == [7, 7, *range(2, 8)]


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="no GPU")
def test_a_buffer_is_not_written_while_it_is_copied() -> None:
    staging = Staging(DEVICE)
    torch.cuda._sleep(200_000_000)  # type: ignore[no-untyped-call]
    brought = [staging.bring([np.full(100_000, number, dtype=np.int32)])[0] for number in range(10)]
    assert [(int(tensor.min()), int(tensor.max())) for tensor in brought] == [(n, n) for n in range(10)]
