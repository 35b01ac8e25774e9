import pytest
import torch

from runtime.llm.parallel.cut import Cut, Share


@pytest.mark.parametrize("total", [0, 3, 8, 321])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_cover_everything_once_and_evenly(total: int, size: int) -> None:
    parts = [Share(rank, size).of(total) for rank in range(size)]
    assert [index for part in parts for index in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_cut_is_a_view_where_it_is_one_range() -> None:
    matrix = torch.arange(12).view(4, 3)
    rows = Cut(0, (range(1, 3),))
    assert (rows.size, rows.of(matrix).data_ptr()) == (2, matrix[1:3].data_ptr())
    assert Cut(0, (range(1), range(3, 4))).of(matrix).tolist() == [[0, 1, 2], [9, 10, 11]]
    assert Cut(1, (range(2, 3),)).of(matrix).tolist() == [[2], [5], [8], [11]]
    assert Cut(0, (range(2, 4),)).of(torch.arange(4)).tolist() == [2, 3], "of a bias"
