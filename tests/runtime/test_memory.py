import torch

from runtime.memory import discard_pages, footprint_bytes, resident_bytes

MIB = 1024 * 1024


def test_touched_memory_is_resident_and_untouched_memory_is_not() -> None:
    before = resident_bytes()
    touched = torch.ones(64 * MIB, dtype=torch.uint8)
    untouched = torch.empty(64 * MIB, dtype=torch.uint8)
    grown = resident_bytes() - before
    assert 60 * MIB < grown < 100 * MIB
    assert touched.nbytes == untouched.nbytes


def test_on_a_cpu_the_footprint_counts_what_was_reserved() -> None:
    cpu = torch.device("cpu")
    difference = footprint_bytes(cpu, 512 * MIB) - footprint_bytes(cpu, 0)
    assert 500 * MIB < difference < 524 * MIB


def test_discarded_pages_are_not_resident_and_their_neighbours_are_as_they_were() -> None:
    whole = torch.ones(3, 40 * MIB + 100, dtype=torch.uint8)
    before = resident_bytes()
    discard_pages(whole[1])
    assert 39 * MIB < before - resident_bytes() < 41 * MIB
    assert whole[0].all()
    assert whole[2].all()


def test_less_than_a_page_is_left_alone() -> None:
    small = torch.ones(100)
    discard_pages(small)
    assert small.all()
