import msgspec
import pytest

from appliance.config import IdentitySettings
from appliance.domain import Principal, Reservation, Role
from appliance.errors import Code, HearthError
from appliance.services.reservations import ReservationAsk, Reservations, choose_devices, held_meanwhile
from appliance.store import reservations as stored
from appliance.store.database import Database
from tests.fakes.fake_gpus import fake_device

KEEPER = Principal(account_id="acme", user_id="root", key_id="k", role=Role.ADMIN)
TENANT = Principal(account_id="globex", user_id="eve", key_id="k", role=Role.ADMIN)
USER = Principal(account_id="acme", user_id="ada", key_id="k", role=Role.USER)
DEVICES = [fake_device(0), fake_device(1)]
FIRST, SECOND = (device.id for device in DEVICES)
KIND = DEVICES[0].accelerator_type
ASK = ReservationAsk(accelerator_type=KIND, num_devices=1)


class World:
    def __init__(self, database: Database, settings: IdentitySettings) -> None:
        self.num_notes = 0
        self.service = Reservations(database, settings, DEVICES, self._note)

    def _note(self) -> None:
        self.num_notes += 1


@pytest.fixture
def world(database: Database) -> World:
    return World(database, IdentitySettings(account_id="acme", library_account_id="library"))


def lasting(starts_at: float, ends_at: float | None, *device_ids: str) -> Reservation:
    return Reservation(
        account_id="acme",
        id="r",
        accelerator_type=KIND,
        device_ids=list(device_ids),
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=0.0,
        updated_at=0.0,
    )


async def test_a_reservation_is_made_seen_by_its_account_and_given_back(world: World) -> None:
    made = await world.service.create(KEEPER, "globex", "week", ASK)
    assert (made.name, made.device_ids, made.ends_at) == ("accounts/globex/reservations/week", [SECOND], None)
    assert await world.service.get(TENANT, "globex", "week") == made
    assert await world.service.list(KEEPER, "globex") == [made]
    await world.service.delete(KEEPER, "globex", "week")
    assert await world.service.list(TENANT, "globex") == []
    assert world.num_notes == 2


async def test_only_who_keeps_the_box_holds_devices(world: World) -> None:
    made = await world.service.create(KEEPER, "globex", "week", ASK)
    for refused in (
        world.service.create(TENANT, "globex", "more", ASK),
        world.service.create(USER, "acme", "more", ASK),
        world.service.delete(TENANT, "globex", "week"),
        world.service.update(TENANT, "globex", "week", ReservationAsk(display_name="mine")),
    ):
        with pytest.raises(HearthError) as error:
            await refused
        assert error.value.code is Code.FORBIDDEN
    for unseen in (world.service.get(USER, "globex", "week"), world.service.list(TENANT, "acme")):
        with pytest.raises(HearthError) as error:
            await unseen
        assert error.value.code is Code.NOT_FOUND
    assert await world.service.list(TENANT, "globex") == [made]


async def test_devices_are_held_once(world: World) -> None:
    await world.service.create(KEEPER, "globex", "one", ASK)
    await world.service.create(KEEPER, "acme", "two", ASK)
    with pytest.raises(HearthError, match="0 of 2 are not reserved in that time") as error:
        await world.service.create(KEEPER, "acme", "three", ASK)
    assert (error.value.code, error.value.param) == (Code.FAILED_PRECONDITION, "reservedCount")
    with pytest.raises(HearthError) as error:
        await world.service.create(KEEPER, "acme", "two", ASK)
    assert error.value.code is Code.CONFLICT


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"accelerator_type": None}, "acceleratorType"),
        ({"accelerator_type": "NVIDIA_B300_288GB"}, "acceleratorType"),
        ({"num_devices": 0}, "reservedCount"),
        ({"num_devices": 3}, "reservedCount"),
        ({"ends_at": 1.0}, "endTime"),
        ({"starts_at": 10**11, "ends_at": 10**11 - 1}, "endTime"),
        ({"display_name": "x" * 64}, "displayName"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(world: World, changes: dict[str, object], param: str) -> None:
    with pytest.raises(HearthError) as error:
        await world.service.create(KEEPER, "acme", "r", msgspec.structs.replace(ASK, **changes))
    assert (error.value.code, error.value.param) == (Code.INVALID, param)


async def test_names_and_end_may_change_and_devices_may_not(world: World, database: Database) -> None:
    made = await world.service.create(KEEPER, "acme", "r", ASK)
    ask = ReservationAsk(display_name="Week", ends_at=made.created_at + 100, starts_at=made.starts_at, num_devices=1)
    changed = await world.service.update(KEEPER, "acme", "r", ask)
    assert (changed.display_name, changed.ends_at) == ("Week", made.created_at + 100)
    async with database.reader() as db:
        assert await stored.get(db, "acme", "r") == changed
    assert (await world.service.update(KEEPER, "acme", "r", ReservationAsk(ends_at=None))).ends_at is None
    for ask in (ReservationAsk(num_devices=2), ReservationAsk(starts_at=made.starts_at + 5)):
        with pytest.raises(HearthError, match="it cannot be changed"):
            await world.service.update(KEEPER, "acme", "r", ask)


async def test_it_is_not_made_longer_into_the_time_of_another(world: World) -> None:
    both = msgspec.structs.replace(ASK, num_devices=2)
    made = await world.service.create(KEEPER, "acme", "now", both)
    at = made.starts_at
    await world.service.update(KEEPER, "acme", "now", ReservationAsk(ends_at=at + 100))
    await world.service.create(KEEPER, "globex", "later", msgspec.structs.replace(both, starts_at=at + 100))
    with pytest.raises(HearthError, match="2 of its devices are reserved for others by then"):
        await world.service.update(KEEPER, "acme", "now", ReservationAsk(ends_at=at + 101))


def test_only_those_that_last_at_the_same_time_are_in_the_way() -> None:
    wanted = lasting(10, 20)
    others = [lasting(0, 10, "before"), lasting(20, None, "after"), lasting(19, 30, "end"), lasting(0, 11, "start")]
    assert held_meanwhile(wanted, others) == {"end", "start"}
    assert held_meanwhile(lasting(10, None), others) == {"after", "end", "start"}
    assert choose_devices(wanted, 1, DEVICES, [lasting(0, None, SECOND)]) == [FIRST]
