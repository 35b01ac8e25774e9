import gc
import itertools
import weakref

import torch

from runtime.llm.native.huge_pages import HugePages


def test_pieces_are_zero_and_lie_side_by_side_from_where_a_page_begins() -> None:
    memory = HugePages()
    pieces = [memory.take(num_bytes) for num_bytes in (100, 64, 2**20)]
    assert pieces[0].data_ptr() % 2**21 == 0
    assert [len(piece) for piece in pieces] == [128, 64, 2**20]
    for piece, following in itertools.pairwise(pieces):
        assert following.data_ptr() == piece.data_ptr() + len(piece)
    assert not any(piece.any() for piece in pieces)
    pieces[1].fill_(7)
    assert not pieces[0].any()
    assert not pieces[2].any()


def test_what_does_not_fit_has_a_region_of_its_own_and_regions_go_with_their_last_piece() -> None:
    memory = HugePages()
    small, large = memory.take(64), memory.take(2**29)
    assert len(large) == 2**29
    storage = weakref.ref(small.untyped_storage())
    before = torch.equal(small, torch.zeros(64, dtype=torch.uint8))
    del small
    gc.collect()
    assert before
    assert storage() is None
