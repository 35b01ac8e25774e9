"""The replicas that there are, and what each has reserved: from the reservation, over sleep, to the release.

A reservation is released only after the replica's last worker is gone and its memory is back; what a device does not
give back is written off instead. Decides nothing: `planning.py` does, and `actions.py` calls.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator

from appliance.domain import Deployment, ReplicaState
from appliance.orchestrator.group import Group
from appliance.orchestrator.health import CrashRecord
from appliance.orchestrator.ledger import Ledger, Overcommitted
from appliance.orchestrator.replica import Measurement, Replica, ReplicaPlan, Surroundings
from appliance.orchestrator.weight_cache import WeightCache

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Account id and deployment id."""


class Roster:
    def __init__(
        self,
        ledger: Ledger,
        weight_cache: WeightCache,
        around: Surroundings,
        on_change: Callable[[], None],
        on_idle: Callable[[], None],
    ) -> None:
        self.groups: dict[Key, Group] = {}
        self.unlearned: list[tuple[str, Measurement]] = []
        """Loads that were measured, by footprint key, and nobody has taken note of."""
        self._ledger = ledger
        self._weight_cache = weight_cache
        self._around = around
        self._on_change = on_change
        self._on_idle = on_idle
        self._running: dict[Replica, asyncio.Task[None]] = {}

    # ---- which deployments there are

    def see(self, active: list[Deployment]) -> None:
        """Take the newest rows of all deployments that are not DELETED."""
        rows = {(deployment.account_id, deployment.id): deployment for deployment in active}
        for key, group in list(self.groups.items()):
            if key in rows:
                group.see(rows[key])
            elif group.replicas:
                group.lose_row()
            else:
                del self.groups[key]
        for key, row in rows.items():
            if key not in self.groups:
                self.groups[key] = Group(row)

    def pids(self) -> set[int]:
        return {replica.worker.pid for replica in self._running if replica.worker is not None}

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups.values())

    # ---- replicas

    def start(self, group: Group, plan: ReplicaPlan) -> None:
        """Raises Overcommitted, and then nothing has happened."""
        assert plan.index not in group.replicas, f"{plan.label} is there already"
        self._ledger.reserve(plan.label, plan.device_ids, plan.reserved_bytes)
        crashes = group.crashes.setdefault(plan.index, CrashRecord(self._around.settings))
        replica = Replica(plan, self._around, self._note_change, self._on_idle, crashes)
        group.replicas[plan.index] = replica
        self._running[replica] = asyncio.create_task(self._keep(group, replica))

    def wake(self, replica: Replica) -> None:
        """Raises Overcommitted, and then nothing has happened."""
        plan, residual_bytes = replica.plan, replica.residual_bytes
        self._ledger.release(plan.label)
        try:
            self._ledger.reserve(plan.label, plan.device_ids, plan.reserved_bytes)
        except Overcommitted:
            if residual_bytes:
                self._ledger.reserve(plan.label, plan.device_ids, residual_bytes)
            raise
        replica.wake()

    def put_to_sleep(self, replica: Replica) -> None:
        """Where there is no room for its weights in host memory it is stopped instead."""
        try:
            self._reserve_host(replica.plan.label, replica.plan.host_bytes)
        except Overcommitted as error:
            logger.info("%s is stopped, not put to sleep: %s", replica.plan.label, error)
            replica.stop(None)
        else:
            replica.sleep()

    async def close(self, drain_s: float, timeout_s: float) -> None:
        """End every replica; what does not end within `timeout_s` is interrupted."""
        for replica in self._running:
            replica.stop(drain_s)
        tasks = list(self._running.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, group: Group, replica: Replica) -> None:
        """From its reservation to the release of it, which comes after its last worker is gone."""
        label = replica.plan.label
        try:
            await replica.run()
        except Exception:
            logger.exception("%s failed", label)
            replica.give_up("an internal error; the log has it")
        finally:
            for device_id, pid in replica.unreturned.items():
                self._ledger.write_off(label, device_id, pid)
            self._ledger.release(label)
            self._ledger.release_host(label)
            del self._running[replica]
            if not replica.has_given_up and group.replicas.get(replica.plan.index) is replica:
                del group.replicas[replica.plan.index]
            self._on_change()

    def _note_change(self, replica: Replica) -> None:
        """Keep the ledger true to what the replica has just become."""
        if replica.state is ReplicaState.ASLEEP:
            self._let_go_of_devices(replica)
        elif replica.state is ReplicaState.READY:
            self._ledger.release_host(replica.plan.label)
            measured = replica.take_measurement()
            if measured is not None and replica.plan.footprint_key:
                self.unlearned.append((replica.plan.footprint_key, measured))
        self._on_change()

    def _let_go_of_devices(self, replica: Replica) -> None:
        label = replica.plan.label
        self._ledger.release(label)
        if replica.residual_bytes:
            self._ledger.reserve(label, replica.plan.device_ids, replica.residual_bytes)
        try:
            self._reserve_host(label, replica.host_bytes)
        except Overcommitted as error:
            logger.info("%s does not stay asleep: %s", label, error)
            replica.stop(None)

    def _reserve_host(self, label: str, num_bytes: int) -> None:
        """Weights that are kept for later give way."""
        more_bytes = num_bytes - self._ledger.host_by_owner().get(label, 0)
        if (lacking := more_bytes - self._ledger.host_free_bytes()) > 0:
            self._weight_cache.shrink_to(max(0, self._weight_cache.held_bytes - lacking))
        self._ledger.reserve_host(label, num_bytes)
