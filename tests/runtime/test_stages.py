import time

import psutil

from runtime.stages import Stages, process_age_ms


def test_each_stage_is_reported_as_it_begins_and_timed_until_the_next() -> None:
    reported: list[tuple[str, float]] = []
    stages = Stages(lambda stage, fraction: reported.append((stage, fraction)))
    stages.begin("inspection", 0.0)
    stages.begin("weights", 0.5)
    durations_ms = stages.finish()
    assert reported == [("inspection", 0.0), ("weights", 0.5)]
    assert list(durations_ms) == ["inspection", "weights"]
    assert all(duration >= 0 for duration in durations_ms.values())


def test_parts_of_a_stage_are_told_beside_it() -> None:
    stages = Stages(lambda stage, fraction: None)
    stages.begin("weights", 0.5)
    stages.note_parts({"read": 3.0, "copy": 4.0})
    durations_ms = stages.finish()
    assert list(durations_ms) == ["weights", "weights/read", "weights/copy"]
    assert durations_ms["weights/copy"] == 4.0


def test_a_process_knows_its_age() -> None:
    expected = (time.time() - psutil.Process().create_time()) * 1000
    assert abs(process_age_ms() - expected) < 1000


def test_progress_within_a_stage_is_that_of_the_whole_and_told_by_the_hundredth() -> None:
    reported: list[tuple[str, float]] = []
    stages = Stages(lambda stage, fraction: reported.append((stage, fraction)))
    stages.begin("weights", 0.2)
    report = stages.within(0.25, 0.75)
    for fraction in (0.0, 0.001, 0.5, 0.501, 1.0):
        report(fraction)
    assert reported[1:] == [("weights", 0.5), ("weights", 0.75)]
