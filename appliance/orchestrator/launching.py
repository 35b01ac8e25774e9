"""How a replica comes by a worker: a spare one that has paid for its imports, else a new process.

What a replica asks of a worker is the Protocol `Worker`; tests put workers without a process behind it.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple, Protocol

from appliance.config import FleetSettings
from appliance.orchestrator.assignment import ReplicaPlan
from appliance.orchestrator.process import LogTail, ProcessIdentity, WorkerProcess, prepare_run_dir
from appliance.orchestrator.spares import Spares
from appliance.orchestrator.worker_client import WorkerClient

KERNEL_CACHE = "kernel-cache"
"""Directory beside that of running workers: what one has compiled for its GPU the next finds there."""


class Worker(Protocol):
    """One process from its start to its end; `WorkerProcess` says more."""

    pid: int
    identity: ProcessIdentity | None
    log: LogTail

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...

    async def wait(self) -> str: ...

    async def close(self) -> None: ...


class Launched(NamedTuple):
    worker: Worker
    client: WorkerClient | None
    """Of a spare worker, which has greeted already."""


class Launcher(Protocol):
    async def start(self) -> None:
        """After leftovers of an earlier daemon have been ended, before the first launch."""

    async def launch(self, plan: ReplicaPlan) -> Launched:
        """Raises OSError when no worker can be had."""

    async def close(self) -> None:
        """After the last replica has ended."""


class ProcessLauncher:
    def __init__(self, settings: FleetSettings, run_dir: Path, spares: Spares) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._kernel_cache = run_dir.absolute().with_name(KERNEL_CACHE)
        self._spares = spares

    async def start(self) -> None:
        self._run_dir = await asyncio.to_thread(prepare_run_dir, self._run_dir)
        await asyncio.to_thread(self._kernel_cache.mkdir, mode=0o700, parents=True, exist_ok=True)
        await self._spares.start(self._run_dir, self._kernel_cache)

    async def launch(self, plan: ReplicaPlan) -> Launched:
        if len(plan.devices) == 1:  # a spare sees one device
            taken = await self._spares.take(plan.devices[0])
            if taken is not None:
                taken.worker.log.label = plan.label
                return Launched(*taken)
        worker = await WorkerProcess.spawn(
            [
                *self._settings.worker_command,
                *("--kind", plan.load.kind, "--deployment", plan.deployment_name, "--replica", str(plan.index)),
            ],
            run_dir=self._run_dir,
            label=plan.label,
            devices=plan.devices,
            num_threads=plan.load.settings.num_threads,
            kernel_cache=self._kernel_cache,
        )
        return Launched(worker, None)

    async def close(self) -> None:
        await self._spares.close()
