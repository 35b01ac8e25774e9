import pytest

from appliance.config import FleetSettings
from appliance.domain import ReplicaState
from appliance.orchestrator.health import CrashRecord, Vitals, find_stall
from runtime.protocol import Heartbeat, LoadProgress

SETTINGS = FleetSettings(heartbeat_timeout_s=10.0, load_stall_timeout_s=100.0)


def heartbeat(num_steps: int, is_busy: bool = True) -> Heartbeat:
    return Heartbeat(
        num_steps=num_steps, is_busy=is_busy, num_running=0, num_waiting=0, num_free_blocks=0, num_blocks=0
    )


def test_silence_of_a_ready_worker_is_a_stall() -> None:
    vitals = Vitals.of_newborn(0.0)
    vitals.note_heartbeat(heartbeat(1), 5.0)
    assert find_stall(ReplicaState.READY, vitals, 15.0, SETTINGS) is None
    assert "silent" in str(find_stall(ReplicaState.READY, vitals, 15.1, SETTINGS))


def test_heartbeats_of_an_engine_that_stands_still_with_work_are_a_stall() -> None:
    vitals = Vitals.of_newborn(0.0)
    for now in range(12):
        vitals.note_heartbeat(heartbeat(7), float(now))
    assert "stood still" in str(find_stall(ReplicaState.READY, vitals, 11.0, SETTINGS))
    vitals.note_heartbeat(heartbeat(8), 12.0)
    assert find_stall(ReplicaState.READY, vitals, 12.0, SETTINGS) is None


def test_an_engine_without_work_may_stand_still() -> None:
    vitals = Vitals.of_newborn(0.0)
    for now in range(100):
        vitals.note_heartbeat(heartbeat(7, is_busy=False), float(now))
    assert find_stall(ReplicaState.READY, vitals, 100.0, SETTINGS) is None


def test_a_load_is_judged_by_its_progress_alone() -> None:
    vitals = Vitals.of_newborn(0.0)
    vitals.note_progress(LoadProgress(stage="weights", fraction=0.5), 90.0)
    assert find_stall(ReplicaState.LOADING, vitals, 190.0, SETTINGS) is None
    vitals.note_progress(LoadProgress(stage="weights", fraction=0.5), 150.0)  # the same again
    assert "no progress in LOADING" in str(find_stall(ReplicaState.LOADING, vitals, 190.1, SETTINGS))


def test_silence_during_the_load_does_not_count_afterwards() -> None:
    vitals = Vitals.of_newborn(0.0)
    vitals.note_loaded(80.0)
    assert find_stall(ReplicaState.READY, vitals, 85.0, SETTINGS) is None


@pytest.mark.parametrize("state", [ReplicaState.STARTING, ReplicaState.DRAINING])
def test_every_state_with_a_worker_has_a_limit(state: ReplicaState) -> None:
    assert find_stall(state, Vitals.of_newborn(0.0), 1000.0, SETTINGS) is not None


def test_pauses_double_up_to_the_limit() -> None:
    crashes = CrashRecord(FleetSettings(crashes_max=100))
    pauses = [crashes.add(0.0, jitter=0.5) for _ in range(9)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_jitter_spreads_pauses_a_fifth_each_way() -> None:
    assert CrashRecord(FleetSettings()).add(0.0, jitter=0.0) == pytest.approx(0.4)
    assert CrashRecord(FleetSettings()).add(0.0, jitter=1.0) == pytest.approx(0.6)


def test_too_many_crashes_in_the_window_are_enough() -> None:
    crashes = CrashRecord(FleetSettings(crashes_max=3, crash_window_s=100.0))
    assert crashes.add(0.0, jitter=0.5) is not None
    assert crashes.add(50.0, jitter=0.5) is not None
    assert crashes.add(120.0, jitter=0.5) == 1.0  # the first is forgotten
    assert crashes.add(130.0, jitter=0.5) is None


def test_the_end_of_an_idle_worker_that_has_served_for_a_while_counts_as_no_crash() -> None:
    crashes = CrashRecord(FleetSettings(crashes_max=2, settled_s=60.0))
    assert [crashes.add(float(number), jitter=0.5, idle_service_s=60.0) for number in range(9)] == 9 * [0.5]
    assert crashes.add(10.0, jitter=0.5, idle_service_s=59.0) == 0.5
    assert crashes.add(11.0, jitter=0.5, idle_service_s=60.0) == 0.5
    assert crashes.add(12.0, jitter=0.5) is None


def test_a_load_that_begins_has_made_no_progress() -> None:
    vitals = Vitals.of_newborn(0.0)
    vitals.note_progress(LoadProgress(stage="weights", fraction=1.0), 1.0)
    vitals.note_load_begun(50.0)
    assert vitals.progress is None
    assert find_stall(ReplicaState.LOADING, vitals, 140.0, SETTINGS) is None
