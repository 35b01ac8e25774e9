"""How long replicas hold devices."""

import msgspec
import pytest

from appliance.config import PriceSettings
from appliance.domain import AcceleratorUser, Deployment, ReplicaState
from appliance.services.device_time import TELL_INTERVAL_S, DeviceTime
from appliance.services.spending import Subject
from appliance.store import accelerator_usage
from appliance.store.database import Database
from tests.appliance.services.accounting_world import World
from tests.appliance.services.samples import deployment
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_gpus import fake_device

BIG = deployment("acme", "big", "accounts/acme/models/m")
DEVICES = [fake_device(0, 80, "NVIDIA_H100_80GB"), fake_device(1, 80, "NVIDIA_H100_80GB")]
H100 = AcceleratorUser(
    account_id="acme", deployment=BIG.name, base_model=BIG.base_model, accelerator_type="NVIDIA_H100_80GB"
)


class Replica(msgspec.Struct):
    state: ReplicaState = ReplicaState.READY
    device_ids: tuple[str, ...] = tuple(device.id for device in DEVICES)
    held_bytes: int = 1


class Fleet:
    def __init__(self, world: World) -> None:
        self.world = world
        self.replicas: list[tuple[Deployment, Replica]] = []
        self.device_time = DeviceTime(DEVICES, lambda: self.replicas, world.journal, world.spending, world.clock)

    async def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        await self.device_time.look()

    async def stored(self) -> dict[AcceleratorUser, float]:
        await self.world.journal.flush()
        async with self.world.database.reader() as db:
            return dict(await accelerator_usage.sum_since(db, 0.0))


@pytest.fixture
def fleet(database: Database, clock: FakeClock) -> Fleet:
    return Fleet(World(database, clock, PriceSettings()))


async def test_each_device_counts_for_as_long_as_it_is_held(fleet: Fleet) -> None:
    await fleet.pass_time(5.0)
    fleet.replicas = [(BIG, Replica())]
    await fleet.pass_time(1.0)
    await fleet.pass_time(2.0)
    fleet.replicas = []
    await fleet.pass_time(4.0)
    fleet.device_time.tell()
    assert await fleet.stored() == {H100: pytest.approx(6.0)}
    assert fleet.world.spending.used(Subject("acme")).accelerator_seconds == pytest.approx(6.0)


@pytest.mark.parametrize("replica", [Replica(state=ReplicaState.ASLEEP), Replica(held_bytes=0)])
async def test_what_holds_no_devices_costs_nothing(fleet: Fleet, replica: Replica) -> None:
    fleet.replicas = [(BIG, replica)]
    await fleet.pass_time(3.0)
    fleet.device_time.tell()
    assert await fleet.stored() == {}


async def test_the_disk_is_told_now_and_then(fleet: Fleet) -> None:
    fleet.replicas = [(BIG, Replica())]
    await fleet.pass_time(TELL_INTERVAL_S - 1.0)
    assert await fleet.stored() == {}
    await fleet.pass_time(1.0)
    assert await fleet.stored() == {H100: pytest.approx(2 * TELL_INTERVAL_S)}
