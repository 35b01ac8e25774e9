import torch

from runtime.memory import footprint_bytes, resident_bytes

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
