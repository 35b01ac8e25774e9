"""A roster over two pretend devices and workers without processes, for tests of it and of who acts on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from appliance.config import GIB
from appliance.orchestrator.claims import Claims
from appliance.orchestrator.group import Group
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.replica import Replica
from appliance.orchestrator.roster import Roster
from appliance.orchestrator.spares import Spares
from appliance.orchestrator.weight_cache import WeightCache
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import sample_deployment, sample_plan, sample_settings, sample_surroundings
from tests.fakes.fake_gpus import FakeInventory, fake_device
from tests.fakes.in_process_worker import InProcessLauncher, InProcessWorker, WorkerScript
from tests.waiting import until

SIZE = 10 * GIB


class RosterWorld:
    def __init__(self, database: Database, host_bytes: int) -> None:
        self.settings = sample_settings()
        self.inventory = FakeInventory(fake_device(0), fake_device(1))
        self.launcher = InProcessLauncher()
        self.launcher.scripts["d"] = WorkerScript(load_s=0.0, wake_s=0.0, answer_s=0.0, host_bytes=2 * GIB)
        self.ledger = Ledger(self.inventory.devices, host_bytes)
        quiet = Quiet(settle_s=0.0)
        self.weight_cache = WeightCache(self.ledger, quiet)
        self.spares = Spares(self.settings, database, self.inventory, self.ledger, quiet)
        around = sample_surroundings(self.settings, database, self.inventory, launcher=self.launcher)
        self.num_changes = 0
        self.roster = Roster(self.ledger, self.weight_cache, around, self._note, self._note)
        self.claims = Claims(self.ledger, self._note)
        self.roster.see([sample_deployment()])

    @property
    def group(self) -> Group:
        return self.roster.groups["acme", "d"]

    async def start(self, index: int = 0, **changes: Any) -> Replica:
        """One that is ready."""
        plan = sample_plan(
            **{"index": index, "reserved_bytes": SIZE, "host_bytes": GIB, "footprint_key": "k"} | changes
        )
        self.roster.start(self.group, plan)
        replica = self.group.replicas[index]
        await until(lambda: replica.is_ready)
        return replica

    async def put_to_sleep(self, replica: Replica) -> None:
        self.roster.put_to_sleep(replica)
        await until(lambda: replica.is_asleep)

    def keep_memory(self, worker: InProcessWorker, num_bytes: int) -> None:
        """As a driver that does not give back what a dead worker held."""
        self.inventory.used[worker.plan.device_ids[0]][worker.pid] = worker.plan.reserved_bytes

    def give_memory_back(self) -> None:
        for device_id, pid in self.ledger.unreturned():
            del self.inventory.used[device_id][pid]
            self.ledger.recover(device_id, pid)

    def _note(self) -> None:
        self.num_changes += 1


@asynccontextmanager
async def roster_world(database: Database, host_bytes: int = 4 * GIB) -> AsyncIterator[RosterWorld]:
    world = RosterWorld(database, host_bytes)
    try:
        yield world
    finally:
        await world.roster.close(drain_s=0.0, timeout_s=60.0)
        assert world.ledger.free() == {"simulated-0": 80 * GIB, "simulated-1": 80 * GIB}
        assert world.ledger.host_by_owner() == {}
