import asyncio

import pytest

from appliance.config import GIB, FleetSettings, IdentitySettings
from appliance.domain import Lease, Principal, Role
from appliance.errors import Code, HearthError
from appliance.orchestrator.fleet import Demand, Explanation, Priority
from appliance.services.leases import LeaseAsk, Leases
from appliance.store import leases
from appliance.store.database import Database

ASK = LeaseAsk(num_bytes=20 * GIB, duration_s=3600.0, command="python", wait_s=5.0)
ADA = Principal(account_id="acme", user_id="ada", key_id="k", role=Role.USER)
BOB = Principal(account_id="acme", user_id="bob", key_id="k", role=Role.USER)
ADMIN = Principal(account_id="acme", user_id="root", key_id="k", role=Role.ADMIN)
STRANGER = Principal(account_id="other", user_id="eve", key_id="k", role=Role.ADMIN)


class FakeClaim:
    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.explanation = Explanation("needs 20.0 GiB; free: GPU-1 3.0 GiB", 20 * GIB, 1, {"GPU-1": 3 * GIB})
        self.device_ids: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.is_released = False

    async def granted(self) -> list[str]:
        return await asyncio.shield(self.device_ids)

    def release(self) -> None:
        self.is_released = True


class FakeClaims:
    """Grants at once while `has_room`."""

    def __init__(self) -> None:
        self.has_room = True
        self.made: dict[str, FakeClaim] = {}

    def claim(self, owner: str, account_id: str, priority: Priority, demand: Demand, may_evict: bool) -> FakeClaim:
        assert (priority, may_evict) == (Priority.LEASE, True)
        claim = self.made[owner] = FakeClaim(demand)
        if self.has_room:
            claim.device_ids.set_result(list(demand.device_ids) or ["GPU-1"])
        return claim

    @property
    def held(self) -> list[str]:
        return [owner for owner, claim in self.made.items() if not claim.is_released]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    def __init__(self, database: Database, keepalive_s: float = 60.0) -> None:
        self.database = database
        self.claims = FakeClaims()
        self.clock = Clock()
        settings = FleetSettings(lease_keepalive_s=keepalive_s)
        self.leases = Leases(database, self.claims, settings, IdentitySettings(account_id="acme"), self.clock)

    async def rows(self) -> list[Lease]:
        async with self.database.reader() as db:
            return await leases.list_all(db)


@pytest.fixture
async def world(database: Database) -> World:
    return World(database)


async def test_what_is_lent_is_reserved_until_it_is_given_back(world: World) -> None:
    lease = await world.leases.take(ADA, ASK)
    assert (lease.device_ids, lease.num_bytes, lease.command) == (["GPU-1"], 20 * GIB, "python")
    assert lease.expires_at == lease.created_at + 3600.0
    assert world.claims.held == [f"leases/{lease.id}"]
    assert await world.rows() == [lease]
    await world.leases.end(ADA, lease.id)
    assert world.claims.held == []
    assert await world.rows() == []


async def test_without_room_in_time_the_answer_says_why_and_nothing_stays_reserved(world: World) -> None:
    world.claims.has_room = False
    with pytest.raises(HearthError, match=r"needs 20\.0 GiB; free: GPU-1 3\.0 GiB") as raised:
        await world.leases.take(ADA, LeaseAsk(num_bytes=GIB, duration_s=1.0, wait_s=0.0))
    assert (raised.value.code, raised.value.reason) == (Code.UNAVAILABLE, "NO_ROOM")
    assert world.claims.held == []


async def test_a_lease_ends_when_its_time_is_over(world: World) -> None:
    lease = await world.leases.take(ADA, ASK)
    world.clock.now = lease.expires_at - 0.5
    await world.leases.sweep()
    assert world.claims.held
    world.clock.now = lease.expires_at
    await world.leases.sweep()
    assert (world.claims.held, await world.rows()) == ([], [])
    with pytest.raises(HearthError) as raised:
        world.leases.renew(ADA, lease.id)
    assert raised.value.code is Code.NOT_FOUND
    async with world.database.reader() as db:
        told = [tuple(row) for row in await db.execute_fetchall("SELECT method, message FROM audit_logs ORDER BY seq")]
    assert told[1:] == [("DeleteLease", "its time is over")]


async def test_a_lease_whose_holder_is_silent_is_taken_back(database: Database) -> None:
    world = World(database, keepalive_s=0.0)
    await world.leases.take(ADA, ASK)
    await asyncio.sleep(0)
    await world.leases.sweep()
    assert (world.claims.held, await world.rows()) == ([], [])


async def test_a_new_daemon_reserves_again_what_is_still_lent_and_forgets_what_is_over(world: World) -> None:
    kept = await world.leases.take(ADA, ASK)
    over = await world.leases.take(ADA, LeaseAsk(num_bytes=GIB, duration_s=1.0, wait_s=5.0))
    successor = World(world.database)
    successor.clock.now = over.expires_at
    await successor.leases.restore()
    assert successor.claims.held == [f"leases/{kept.id}"]
    assert successor.claims.made[f"leases/{kept.id}"].demand.device_ids == ("GPU-1",)
    assert await successor.rows() == [kept]


async def test_only_its_holder_and_admins_of_this_machine_touch_a_lease(world: World) -> None:
    lease = await world.leases.take(ADA, ASK)
    for who, code in ((BOB, Code.FORBIDDEN), (STRANGER, Code.NOT_FOUND)):
        with pytest.raises(HearthError) as raised:
            await world.leases.end(who, lease.id)
        assert raised.value.code is code
    with pytest.raises(HearthError) as raised:
        await world.leases.take(STRANGER, ASK)
    assert raised.value.code is Code.FORBIDDEN
    await world.leases.end(ADMIN, lease.id)
    assert world.claims.held == []


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (LeaseAsk(num_bytes=0, duration_s=1.0), "memoryBytes"),
        (LeaseAsk(num_bytes=1, duration_s=1.0, accelerator_count=0), "acceleratorCount"),
        (LeaseAsk(num_bytes=1, duration_s=0.0), "duration"),
        (LeaseAsk(num_bytes=1, duration_s=1e9), "duration"),
    ],
)
async def test_an_ask_without_sense_is_refused_by_name(world: World, ask: LeaseAsk, param: str) -> None:
    with pytest.raises(HearthError) as raised:
        await world.leases.take(ADA, ask)
    assert (raised.value.code, raised.value.param) == (Code.INVALID, param)
