"""The only wiring file: start everything in order, close in reverse.

What is built here is handed down as values; nothing finds its collaborators by itself. `run` is `hearth serve`.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from appliance.api.app import build_app
from appliance.api.routing import Node, Services
from appliance.api.server import HttpServer
from appliance.config import Config
from appliance.errors import Code, HearthError
from appliance.logs import configure_logging
from appliance.orchestrator.gpus import discover_inventory
from appliance.orchestrator.router import Router
from appliance.orchestrator.supervisor import Supervisor
from appliance.services.builtin_model import BuiltinModel
from appliance.services.deployments import Box, Deployments
from appliance.services.identity import Identity
from appliance.services.inference import Inference
from appliance.services.metrics import Metrics
from appliance.services.models import Models
from appliance.services.replica_metrics import ReplicaMetrics
from appliance.services.uploads import load_signing_key
from appliance.store.database import Database
from appliance.store.lock import lock_data_dir
from models.builtin import EMBER_CHAT_DIRECTORY, EMBER_CHAT_ID

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_IO_ERROR = 74
"""sysexits.h EX_IOERR: the state can no longer be written; a new start may help."""
EXIT_LOCKED = 75
"""EX_TEMPFAIL: another daemon owns the data directory."""
EXIT_CONFIG = 78
"""EX_CONFIG: starting again will not help."""

BUILTIN = BuiltinModel(id=EMBER_CHAT_ID, directory=EMBER_CHAT_DIRECTORY, display_name="Ember Chat")


class Daemon(NamedTuple):
    base_url: str
    services: Services
    failed: asyncio.Event
    """Set when the state can no longer be written."""


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT (0), or until the state store fails (74)."""
    configure_logging(config.log)
    try:
        return asyncio.run(_run(config))
    except HearthError as error:
        print(f"hearth: {error.message}", file=sys.stderr)
        return EXIT_LOCKED if error.reason == "LOCKED" else EXIT_CONFIG


async def _run(config: Config) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_daemon(config) as daemon:
        print(f"hearth is ready at {daemon.base_url}", flush=True)
        waiting = {asyncio.create_task(stop.wait()), asyncio.create_task(daemon.failed.wait())}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
    return EXIT_IO_ERROR if daemon.failed.is_set() else EXIT_OK


@asynccontextmanager
async def running_daemon(config: Config) -> AsyncIterator[Daemon]:
    """Everything, from the lock on the data directory to the listening socket; raises HearthError when it cannot be."""
    data_dir = config.data_dir.expanduser().absolute()
    async with AsyncExitStack() as closing:
        closing.enter_context(lock_data_dir(data_dir))
        models_dir, uploads_dir = _private_directory(data_dir / "models"), _private_directory(data_dir / "uploads")
        database = await Database.open(data_dir / "hearth.db")
        closing.push_async_callback(database.close)

        identity = Identity(database, config.identity)
        await identity.ensure_first_start(data_dir)
        models = Models(
            database,
            config.identity,
            models_dir=models_dir,
            uploads_dir=uploads_dir,
            signing_key=load_signing_key(data_dir / "signing-key"),
            file_bytes_max=config.server.max_file_bytes,
            builtin=BUILTIN,
        )
        await models.sweep()
        await models.install_builtin()

        inventory = discover_inventory(config.fleet)
        supervisor = Supervisor(config.fleet, database, inventory, models_dir, data_dir / "run")
        box = Box(
            accelerator_types={device.accelerator_type for device in inventory.devices},
            replica_count_max=config.fleet.replica_count_max,
            notify=supervisor.notify,
            num_in_flight=lambda *key: sum(view.num_in_flight for view in supervisor.replicas(*key)),
        )
        deployments = Deployments(database, config.identity, box, config.deployment_purge_s)
        await deployments.purge()
        supervisor.observer = deployments
        await supervisor.start()
        closing.push_async_callback(supervisor.close, config.server.drain_s)

        metrics = Metrics()
        metrics.registry.register(ReplicaMetrics(supervisor.all_replicas))
        inference = Inference(config, deployments, Router(supervisor, config.fleet), metrics)
        node = Node(database, supervisor, metrics)
        services = Services(config, identity, models, deployments, inference, node)
        server = HttpServer(build_app(services), config.server)
        try:
            base_url = await server.start()
        except OSError as error:
            address = f"{config.server.host}:{config.server.port}"
            raise HearthError(Code.INVALID, f"cannot listen on {address}: {error.strerror}", "port") from error
        closing.push_async_callback(server.close)
        yield Daemon(base_url, services, database.failed)
        logger.info("stopping: no new requests; running ones have %g s", config.server.drain_s)


def _private_directory(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path
