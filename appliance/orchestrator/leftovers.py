"""Rows of workers: written before a worker is used, removed when it is dead, and swept after a crash of the daemon.

A row names a process for ever (pid, start time, boot), so that only what an earlier daemon left behind is ended.
"""

import asyncio
import logging
from collections.abc import Collection

from appliance.domain import ReplicaRow
from appliance.errors import HearthError
from appliance.orchestrator.assignment import ReplicaPlan
from appliance.orchestrator.gpus import Inventory, wait_for_memory
from appliance.orchestrator.launching import Worker
from appliance.orchestrator.process import ProcessIdentity, end_leftover
from appliance.store import replicas
from appliance.store.database import Database

logger = logging.getLogger(__name__)


async def record_worker(database: Database, plan: ReplicaPlan, worker: Worker) -> None:
    if worker.identity is None:
        return  # it is dead already
    async with database.transaction() as tx:
        row = ReplicaRow(
            account_id=plan.account_id,
            deployment_id=plan.deployment_id,
            index=plan.index,
            device_ids=plan.device_ids,
            reserved_bytes=plan.reserved_bytes,
            pid=worker.identity.pid,
            pid_started_ticks=worker.identity.started_ticks,
            boot_id=worker.identity.boot_id,
            started_at=tx.now,
        )
        await replicas.put(tx, row)


async def strike_out_worker(database: Database, plan: ReplicaPlan) -> None:
    try:
        async with database.transaction() as tx:
            await replicas.delete(tx, plan.account_id, plan.deployment_id, plan.index)
    except HearthError as error:
        # Harmless: the row names a process that is gone, and the next start strikes it out.
        logger.error("%s: the row of its dead worker stays: %s", plan.label, error.message)


async def end_leftovers(database: Database, inventory: Inventory) -> None:
    """Workers that outlived an earlier daemon die before their memory is promised to anyone."""
    async with database.reader() as db:
        rows = await replicas.list_all(db)
    await asyncio.gather(*(_end(row, database, inventory) for row in rows))


async def _end(row: ReplicaRow, database: Database, inventory: Inventory) -> None:
    if not await end_leftover(ProcessIdentity(row.pid, row.pid_started_ticks, row.boot_id)):
        # Its row stays for the next start; the memory that it holds counts as that of others.
        logger.error("worker %d, which an earlier daemon left behind, cannot be ended", row.pid)
        return
    await _await_memory(row, inventory, {device.id for device in inventory.devices})
    async with database.transaction() as tx:
        await replicas.delete(tx, row.account_id, row.deployment_id, row.index)


async def _await_memory(row: ReplicaRow, inventory: Inventory, device_ids: Collection[str]) -> None:
    for device_id in row.device_ids:
        if device_id in device_ids and not await wait_for_memory(inventory, device_id, row.pid):
            logger.error("%s does not give back the memory of a worker that an earlier daemon left behind", device_id)
