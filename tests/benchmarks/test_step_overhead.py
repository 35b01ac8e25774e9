"""What a step costs beside arithmetic."""

from benchmarks.step_overhead import start_decoding


def test_every_request_decodes_in_every_step() -> None:
    engine = start_decoding(num_requests=3)

    assert [len(engine.step()) for _ in range(3)] == [3, 3, 3]
