from benchmarks.gpu_device_trace import busy_and_idle


def test_what_overlaps_counts_once_and_gaps_are_idle() -> None:
    assert busy_and_idle([(10, 20), (15, 18), (19, 25), (30, 31)]) == (16, 5)
    assert busy_and_idle([(3, 4)]) == (1, 0)
