import pytest

from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import DeploymentFact, ReplicaFact
from appliance.orchestrator.rolling import SETTLED, Upkeep, look_after
from tests.appliance.orchestrator.fleet_samples import deployment, replica

LOADING, READY, ASLEEP, FAILED = ReplicaState.LOADING, ReplicaState.READY, ReplicaState.ASLEEP, ReplicaState.FAILED


def ended(upkeep: Upkeep) -> list[int]:
    return [each.index for each, _ in upkeep.ending]


def rolling(*replicas: ReplicaFact, desired: int) -> DeploymentFact:
    """Replicas of revision 1 are outdated."""
    return deployment("d", *replicas, desired=desired, revision=2)


def test_nothing_is_done_for_one_that_has_what_is_desired() -> None:
    assert look_after(deployment("d", replica(), replica(index=1))) is SETTLED
    assert look_after(deployment("d", desired=0)) is SETTLED
    assert look_after(deployment("d", replica(has_given_up=True, state=FAILED))) is SETTLED


def test_what_is_missing_is_counted_beside_what_is_leaving() -> None:
    assert look_after(deployment("d", desired=3)).num_missing == 3
    assert look_after(deployment("d", replica(), replica(index=1, is_leaving=True), desired=3)).num_missing == 2


def test_the_excess_that_is_missed_least_goes() -> None:
    busy, idle, loading = replica(num_in_flight=2), replica(index=1), replica(index=2, state=LOADING)
    given_up = replica(index=3, has_given_up=True, state=FAILED)
    everything = deployment("d", busy, idle, loading, given_up, desired=2)
    assert ended(look_after(everything)) == [3, 2]
    assert ended(look_after(deployment("d", busy, idle, desired=1))) == [1]


def test_one_whose_devices_are_held_for_others_is_replaced_like_an_outdated_one() -> None:
    displaced = replica(is_displaced=True)
    upkeep = look_after(deployment("d", displaced))
    assert (upkeep.num_missing, upkeep.is_surge, upkeep.in_exchange) == (1, True, displaced)
    upkeep = look_after(deployment("d", displaced, replica(index=1)))
    assert (upkeep.num_missing, upkeep.in_exchange) == (1, displaced)
    upkeep = look_after(deployment("d", displaced, replica(index=1), desired=1))
    assert upkeep.ending == ((displaced, "its devices are reserved for another account"),)


def test_a_sleeper_on_devices_held_for_others_is_not_woken_there() -> None:
    upkeep = look_after(deployment("d", replica(state=ASLEEP, is_displaced=True), desired=1))
    assert (ended(upkeep), upkeep.num_missing, upkeep.sleeping) == ([0], 1, ())


def test_one_of_several_may_rest_when_none_is_desired() -> None:
    upkeep = look_after(deployment("d", replica(), replica(index=1), replica(index=2, state=LOADING), desired=0))
    assert [each.index for each in upkeep.resting] == [0]
    assert ended(upkeep) == [1, 2]


def test_one_that_sleeps_stays_when_none_is_desired_and_others_go() -> None:
    asleep = replica(state=ASLEEP)
    assert look_after(deployment("d", asleep, desired=0)) == SETTLED
    assert ended(look_after(deployment("d", asleep, replica(index=1), desired=0))) == [1]


def test_nothing_of_a_deleted_deployment_sleeps() -> None:
    upkeep = look_after(deployment("d", replica(state=ASLEEP), replica(index=1), desired=0, is_leaving=True))
    assert (ended(upkeep), upkeep.resting) == ([0, 1], ())


def test_sleepers_are_woken_before_others_are_started() -> None:
    upkeep = look_after(deployment("d", replica(state=ASLEEP), desired=2))
    assert (upkeep.num_missing, [each.index for each in upkeep.sleeping]) == (2, [0])


def test_one_that_is_falling_asleep_is_waited_for_unless_it_is_busy() -> None:
    falling = replica(is_leaving=True, is_falling_asleep=True)
    assert look_after(deployment("d", falling, desired=1)).num_missing == 0
    busy = replica(is_leaving=True, is_falling_asleep=True, num_in_flight=1)
    assert look_after(deployment("d", busy, desired=1)).num_missing == 1


def test_a_sleeper_goes_when_another_was_started_in_its_place() -> None:
    assert ended(look_after(deployment("d", replica(state=ASLEEP), replica(index=1), desired=1))) == [0]


def test_an_outdated_sleeper_goes() -> None:
    assert ended(look_after(rolling(replica(state=ASLEEP), desired=1))) == [0]
    assert ended(look_after(rolling(replica(state=ASLEEP), desired=0))) == [0]


def test_a_new_replica_comes_beside_the_old_ones_or_in_exchange_for_the_idlest() -> None:
    upkeep = look_after(rolling(replica(num_in_flight=1), replica(index=1), desired=2))
    assert (upkeep.num_missing, upkeep.is_surge, ended(upkeep)) == (1, True, [])
    assert upkeep.in_exchange is not None
    assert upkeep.in_exchange.index == 1


def test_replicas_are_replaced_one_at_a_time() -> None:
    loading = replica(index=2, revision=2, state=LOADING)
    assert look_after(rolling(replica(), replica(index=1), loading, desired=2)) == SETTLED
    ready = replica(index=2, revision=2)
    upkeep = look_after(rolling(replica(), replica(index=1, num_in_flight=1), ready, desired=2))
    assert (ended(upkeep), upkeep.num_missing, upkeep.is_surge) == ([0], 1, True)


def test_no_second_old_one_goes_while_the_first_is_leaving() -> None:
    upkeep = look_after(rolling(replica(), replica(index=1, is_leaving=True), desired=2))
    assert (upkeep.num_missing, upkeep.is_surge) == (1, False)
    assert upkeep.in_exchange is None


def test_an_old_one_that_does_not_serve_goes_at_once() -> None:
    assert ended(look_after(rolling(replica(), replica(index=1, state=LOADING), desired=2))) == [1]


def test_old_ones_keep_serving_when_the_new_one_gives_up() -> None:
    given_up = replica(index=2, revision=2, state=FAILED, has_given_up=True)
    assert look_after(rolling(replica(), replica(index=1), given_up, desired=2)) == SETTLED


@pytest.mark.parametrize("desired", [1, 2, 5])
def test_a_rollout_ends_with_new_replicas_and_always_serves(desired: int) -> None:
    replicas = [replica(index=index) for index in range(desired)]
    for _ in range(4 * desired):
        upkeep = look_after(rolling(*replicas, desired=desired))
        replicas = [each for each in replicas if each.index not in ended(upkeep)]
        replicas += [replica(index=100 + len(replicas) + each, revision=2) for each in range(upkeep.num_missing)]
        assert desired <= len(replicas) <= desired + 1
        for number, each in enumerate(replicas):
            replicas[number] = ReplicaFact(number, *(getattr(each, name) for name in each.__struct_fields__[1:]))
    assert [each.revision for each in replicas] == [2] * desired
