"""A whole fleet in virtual time: a supervisor over pretend devices and workers without processes, and who uses it.

`FleetWorld` does to it what users, operators, faults and clocks do; `check` says what must be true after every step.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec

from appliance.config import GIB, FleetSettings
from appliance.domain import Account, Deployment, DeploymentState, ReplicaState
from appliance.errors import HearthError
from appliance.orchestrator.adapters import Adapters
from appliance.orchestrator.claims import Claim
from appliance.orchestrator.fleet import Demand, Priority
from appliance.orchestrator.router import NotWanted, Router
from appliance.orchestrator.supervisor import ReplicaCounts, Supervisor
from appliance.store import accounts, deployments, models, replicas
from appliance.store.database import Database
from runtime.protocol import Submit
from runtime.submission import TextPrompt
from tests.appliance.orchestrator.samples import sample_deployment, sample_model
from tests.fakes.fake_gpus import FakeInventory, fake_device
from tests.fakes.in_process_worker import InProcessLauncher, InProcessWorker, WorkerScript
from tests.fakes.virtual_time import VirtualDatabase, virtual_loop

SETTINGS = FleetSettings(
    num_spare_workers=0,
    host_cache_bytes=60 * GIB,
    supervisor_interval_s=2.0,
    heartbeat_timeout_s=60.0,
    min_residency_s=30.0,
    max_wait_s=120.0,
    backoff_max_s=10.0,
)
MODEL_GIGABYTES = (10, 20, 35, 50)
NUM_DEVICES = 3


class Services:
    """What the supervisor reports to; as the real ones, they alone write rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def observe(
        self, deployment: Deployment, observed: ReplicaCounts, message: str, termination_message: str
    ) -> None:
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, deployment.account_id, deployment.id)
            if current is None or current.desired_replica_count != observed.wanted:
                return
            state = current.state
            if state is DeploymentState.DELETING:
                await deployments.delete(tx, current.account_id, current.id)
                return
            if observed.ready or not observed.wanted:
                state = DeploymentState.READY
            elif observed.failed == observed.wanted:
                state = DeploymentState.FAILED
            await deployments.update(tx, msgspec.structs.replace(current, state=state, status_message=message))

    async def evict(self, deployment: Deployment, to_count: int, reason: str) -> None:
        await self.change(deployment.id, desired_replica_count=to_count)

    async def change(self, deployment_id: str, **changes: object) -> Deployment | None:
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, "acme", deployment_id)
            if current is None or current.state is DeploymentState.DELETING:
                return None
            changed = msgspec.structs.replace(current, **changes)
            await deployments.update(tx, changed)
            return changed

    async def want(self, deployment_id: str) -> Deployment | None:
        """As a request does: at zero replicas, one is asked for."""
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, "acme", deployment_id)
            if current is None or current.state is DeploymentState.DELETING:
                return None
            if current.desired_replica_count == 0:
                current = msgspec.structs.replace(current, desired_replica_count=1)
                await deployments.update(tx, current)
            return current


class SystemClock:
    """Somebody may set it."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def __call__(self) -> float:
        return virtual_loop().unix_time() + self.offset_s


class Wait:
    """A request that waits for a replica."""

    def __init__(self, deployment_id: str, began_at: float) -> None:
        self.deployment_id = deployment_id
        self.began_at = began_at


class Complaints(logging.Handler):
    """Exceptions that were logged, but those of a store that the test made fail; an impossible transition is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], HearthError):
            self.found.append(self.format(record))


class FleetWorld:
    def __init__(self, database: Database, system_clock: SystemClock, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.database = database
        self.system_clock = system_clock
        self.inventory = FakeInventory(*(fake_device(index) for index in range(NUM_DEVICES)))
        self.launcher = InProcessLauncher()
        self.launcher.on_hold = self._note_memory
        self.services = Services(database)
        self.complaints = Complaints()
        self.deployment_ids: list[str] = []
        """Those that were made and not deleted."""
        self.claims: dict[Claim, asyncio.Task[None]] = {}
        """With whoever holds each."""
        self.waits: set[Wait] = set()
        self.longest_wait_s = 0.0
        self.num_answered = 0
        self.num_refused = 0
        self._directory = directory
        self._num_made = 0
        self._requests: dict[asyncio.Task[None], None] = {}
        """A set in order, so that a seed tells the whole story."""
        self.supervisor, self.router = self._make_supervisor()

    def _make_supervisor(self) -> tuple[Supervisor, Router]:
        supervisor = Supervisor(
            SETTINGS,
            self.database,
            self.inventory,
            self._directory / "models",
            self._directory / "run",
            launcher=self.launcher,
            clock=virtual_loop().unix_time,
        )
        supervisor.observer = self.services
        adapters = Adapters(SETTINGS, self.database, self._directory, supervisor, supervisor.announce)
        return supervisor, Router(supervisor, SETTINGS, adapters)

    # ---- memory

    def _note_memory(self, worker: InProcessWorker, num_bytes: int) -> None:
        """A dead worker's comes back after a while, as drivers do it, or so late that it is written off until then."""
        delay_s = self.random.choice([0.3, 0.3, 0.3, 2.0, 25.0])
        for device in worker.plan.devices:
            used = self.inventory.used[device.id]
            if num_bytes:
                used[worker.pid] = num_bytes
            else:
                virtual_loop().call_later(delay_s, used.pop, worker.pid, None)

    # ---- what happens to it

    async def create(self) -> None:
        if len(self.deployment_ids) >= 6:
            return
        self._num_made += 1
        name = f"d{self._num_made}"
        self.launcher.scripts[name] = WorkerScript(
            load_s=self.random.uniform(0.5, 5.0),
            ending=self.random.choice(["", "", "", "", "crash", "refused"]),
            answer_s=self.random.uniform(0.1, 4.0),
            host_bytes=self.random.randint(1, 20) * GIB,
            residual_bytes=self.random.choice([0, GIB]),
            heartbeat_s=20.0,
        )
        async with self.database.transaction() as tx:
            deployment = sample_deployment(
                id=name,
                base_model=f"accounts/acme/models/m{self.random.choice(MODEL_GIGABYTES)}",
                desired_replica_count=self.random.randint(0, 2),
                accelerator_count=self.random.choice([1, 1, 1, 2]),
                created_at=tx.now,
                updated_at=tx.now,
            )
            await deployments.insert(tx, deployment)
        self.deployment_ids.append(name)
        self.supervisor.notify()

    async def delete(self) -> None:
        if self.deployment_ids:
            name = self.deployment_ids.pop(self.random.randrange(len(self.deployment_ids)))
            await self.services.change(name, state=DeploymentState.DELETING, desired_replica_count=0)
            self.supervisor.notify()

    async def scale(self) -> None:
        if self.deployment_ids:
            name = self.random.choice(self.deployment_ids)
            count = self.random.choice([0, 0, 1, 2])
            self.launcher.scripts[name].ending = ""
            await self.services.change(name, desired_replica_count=count, updated_at=virtual_loop().unix_time())
            self.supervisor.notify()

    async def update(self) -> None:
        """What needs new workers."""
        if self.deployment_ids:
            name = self.random.choice(self.deployment_ids)
            await self.services.change(name, revision=self.random.randrange(10**6))
            self.supervisor.notify()

    async def request(self) -> None:
        if self.deployment_ids:
            task = asyncio.create_task(self._ask(self.random.choice(self.deployment_ids)))
            self._requests[task] = None
            task.add_done_callback(lambda _: self._requests.pop(task))

    async def crash(self) -> None:
        """Of a worker in whatever it does."""
        if self.launcher.alive:
            worker = self.random.choice(self.launcher.alive)
            worker.end("the worker was ended by SIGKILL")
            now = virtual_loop().time()
            for wait in self.waits:
                wait.began_at = now  # whatever was promised to whom, that memory is not back yet

    async def jump(self) -> None:
        """The system's clock, not time itself."""
        self.system_clock.offset_s = self.random.uniform(-3600.0, 3600.0)

    async def claim(self) -> None:
        if len(self.claims) < 2:
            self._num_made += 1
            priority = self.random.choice([Priority.LEASE, Priority.JOB])
            demand = Demand(self.random.randint(1, 10) * GIB, None, 1)
            claim = self.supervisor.claim(f"{priority.name.lower()} {self._num_made}", "acme", priority, demand, True)
            self.claims[claim] = asyncio.create_task(self._hold(claim))

    async def restart(self) -> None:
        """The daemon is killed: its workers end with it, nothing more is written, and another one starts."""
        for worker in self.launcher.alive:
            worker.end("the worker was ended by SIGKILL")
        self.database.failed.set()
        await self._end_users()
        await self.supervisor.close(drain_s=0.0)
        self.database.failed.clear()
        self.supervisor, self.router = self._make_supervisor()
        await self.supervisor.start()

    async def pass_time(self) -> None:
        await asyncio.sleep(self.random.uniform(0.0, 20.0))

    async def close(self) -> None:
        await self._end_users()
        await self.supervisor.close(drain_s=0.0)

    # ---- users

    async def _ask(self, deployment_id: str) -> None:
        wait = Wait(deployment_id, virtual_loop().time())
        self.waits.add(wait)
        try:
            while (deployment := await self.services.want(deployment_id)) is not None:
                self.supervisor.notify()
                try:
                    async with self.router.lease(deployment, None, wait_s=10 * SETTINGS.max_wait_s) as client:
                        self._note_wait(wait)
                        submit = Submit(request_id=self.random.randbytes(8).hex(), prompt=TextPrompt(text="?"))
                        async with aclosing(client.generate(submit)) as outputs:
                            assert [delta.text async for deltas in outputs for delta in deltas] == ["yes"]
                    self.num_answered += 1
                    return
                except NotWanted:
                    continue
        except HearthError:
            self.num_refused += 1
        finally:
            self.waits.discard(wait)

    def _note_wait(self, wait: Wait) -> None:
        self.waits.discard(wait)
        self.longest_wait_s = max(self.longest_wait_s, virtual_loop().time() - wait.began_at)

    async def _hold(self, claim: Claim) -> None:
        try:
            await claim.granted()
            try:
                async with asyncio.timeout(self.random.uniform(1.0, 120.0)):
                    await claim.asked_back.wait()
                    await asyncio.sleep(self.random.uniform(0.0, 5.0))
            except TimeoutError:
                pass  # it has what it wanted
        finally:
            claim.release()
            del self.claims[claim]

    async def _end_users(self) -> None:
        users = [*self._requests, *self.claims.values()]
        for task in users:
            task.cancel()
        await asyncio.gather(*users, return_exceptions=True)
        self.claims.clear()

    # ---- what must be true

    async def check(self) -> None:
        assert not self.complaints.found, self.complaints.found[0]
        assert self.supervisor.is_running
        self._check_ledger()
        self._check_workers()
        await self._check_rows()
        now = virtual_loop().time()
        late = {wait.deployment_id for wait in self.waits if now - wait.began_at > SETTINGS.max_wait_s}
        explanations = {name: self.supervisor.explanation("acme", name) for name in late}
        assert not late, f"wait beyond the maximum: {explanations}"

    def _check_ledger(self) -> None:
        """It equals what the replicas are assigned and the claims were granted, and it fits."""
        expected: dict[str, dict[str, int]] = {device.id: {} for device in self.inventory.devices}
        expected_host: dict[str, int] = {}
        for deployment, view in self.supervisor.all_replicas():
            owner = f"{deployment.name}/replicas/{view.index}"
            if view.state is ReplicaState.ASLEEP and view.host_bytes and not view.is_leaving:
                expected_host[owner] = view.host_bytes
            if view.held_bytes:
                for device_id in view.device_ids:
                    expected[device_id][owner] = view.held_bytes
        for claim in self.claims:
            for device_id in claim.device_ids:
                expected[device_id][claim.owner] = claim.num_bytes
        for device in self.supervisor.device_views():
            held = dict(device.by_owner)
            unreturned_bytes = held.pop("memory not given back", 0)
            assert held == expected[device.device.id], f"{held} is not {expected[device.device.id]}"
            assert sum(held.values()) + unreturned_bytes <= device.device.memory_bytes
        host = self.supervisor.host_view()
        assert sum(host.by_owner.values()) <= host.host_bytes
        assert expected_host.items() <= host.by_owner.items(), f"{expected_host} is not in {host}"

    def _check_workers(self) -> None:
        """No worker without an assignment, and none twice."""
        labels = [worker.plan.label for worker in self.launcher.alive]
        assert len(labels) == len(set(labels))
        for worker in self.launcher.alive:
            held = self.supervisor.host_view().by_owner if worker.is_asleep else {}
            on_devices = [
                view.by_owner.get(worker.plan.label)
                for view in self.supervisor.device_views()
                if view.device.id in worker.plan.device_ids
            ]
            assert worker.plan.label in held or on_devices == len(on_devices) * [worker.plan.reserved_bytes]

    async def _check_rows(self) -> None:
        """Every live worker is recorded that has been used."""
        async with self.database.reader() as db:
            recorded = {row.pid for row in await replicas.list_all(db)}
        serving = {
            view.pid
            for _, view in self.supervisor.all_replicas()
            if view.state in (ReplicaState.READY, ReplicaState.ASLEEP)
        }
        assert serving <= recorded


@asynccontextmanager
async def fleet_world(directory: Path, seed: int) -> AsyncIterator[FleetWorld]:
    async with AsyncExitStack() as closing:
        system_clock = SystemClock()
        database = await VirtualDatabase.open(directory / "hearth.db", bytes(32), system_clock)
        closing.push_async_callback(database.close)
        async with database.transaction() as tx:
            await accounts.insert(tx, Account(id="acme", created_at=0.0, updated_at=0.0))
            for gigabytes in MODEL_GIGABYTES:
                await models.insert(tx, sample_model(f"m{gigabytes}", gigabytes))
        world = FleetWorld(database, system_clock, directory, seed)
        logging.getLogger().addHandler(world.complaints)
        closing.callback(logging.getLogger().removeHandler, world.complaints)
        closing.push_async_callback(world.close)
        await world.supervisor.start()
        yield world
