import msgspec

from appliance.config import GIB
from appliance.domain import Reservation
from appliance.orchestrator.fleet import Demand
from appliance.orchestrator.reserving import closed_to, holders_of, restrict
from tests.fakes.fake_gpus import fake_device

DEVICES = [fake_device(0), fake_device(1), fake_device(2)]
FIRST, SECOND, THIRD = (device.id for device in DEVICES)
DEMAND = Demand(GIB, None, 1)


def reservation(account_id: str, *device_ids: str, starts_at: float = 0.0, ends_at: float | None = None) -> Reservation:
    return Reservation(
        account_id=account_id,
        id="r",
        accelerator_type="X",
        device_ids=list(device_ids),
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=0.0,
        updated_at=0.0,
    )


def only(*device_ids: str) -> Demand:
    return msgspec.structs.replace(DEMAND, device_ids=device_ids)


def test_a_device_is_held_from_the_beginning_until_the_end() -> None:
    timed = [reservation("acme", FIRST, starts_at=10, ends_at=20), reservation("umbra", SECOND, starts_at=15)]
    assert holders_of(timed, 9.9) == {}
    assert holders_of(timed, 10) == {FIRST: "acme"}
    assert holders_of(timed, 15) == {FIRST: "acme", SECOND: "umbra"}
    assert holders_of(timed, 20) == {SECOND: "umbra"}


def test_what_is_held_is_closed_to_everybody_else() -> None:
    holders = {FIRST: "acme", SECOND: "umbra"}
    assert closed_to("acme", holders) == {SECOND}
    assert closed_to("somebody", holders) == {FIRST, SECOND}


def test_without_reservations_nothing_is_restricted() -> None:
    assert restrict([DEMAND], DEVICES, "acme", {}) == (DEMAND,)


def test_own_devices_go_first_and_those_of_others_are_left_alone() -> None:
    holders = {FIRST: "acme", SECOND: "umbra"}
    assert restrict([DEMAND], DEVICES, "acme", holders) == (only(FIRST), only(FIRST, THIRD))
    assert restrict([DEMAND], DEVICES, "somebody", holders) == (only(THIRD),)


def test_a_better_demand_goes_before_an_own_device() -> None:
    modest = msgspec.structs.replace(DEMAND, num_bytes=1)
    found = restrict([DEMAND, modest], DEVICES, "acme", {FIRST: "acme"})
    assert [demand.num_bytes for demand in found] == [GIB, GIB, 1, 1]


def test_nothing_is_left_when_all_that_suit_are_held_for_others() -> None:
    everything = dict.fromkeys((FIRST, SECOND, THIRD), "umbra")
    assert restrict([DEMAND], DEVICES, "acme", everything) == ()
    assert restrict([only(FIRST)], DEVICES, "acme", {FIRST: "umbra"}) == ()
