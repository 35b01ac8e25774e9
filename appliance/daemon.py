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
from appliance.api.errors import WIRE
from appliance.api.routing import Node, Services
from appliance.api.server import HttpServer
from appliance.config import Config, ServerSettings
from appliance.errors import Code, HearthError
from appliance.logs import configure_logging
from appliance.orchestrator.adapters import Adapters
from appliance.orchestrator.gpus import Inventory, discover_inventory
from appliance.orchestrator.router import Router
from appliance.orchestrator.supervisor import Supervisor
from appliance.services.account_metrics import AccountMetrics
from appliance.services.autoscaler import Autoscaler
from appliance.services.builtin_model import BuiltinModel
from appliance.services.deployed_models import DeployedModels
from appliance.services.deployments import Box, Deployments
from appliance.services.device_metrics import DeviceMetrics
from appliance.services.identity import Identity
from appliance.services.inference import Inference
from appliance.services.leases import Leases
from appliance.services.loads import Loads
from appliance.services.metrics import Metrics
from appliance.services.models import Models
from appliance.services.replica_metrics import ReplicaMetrics
from appliance.services.shape_matching import DeploymentShapes
from appliance.services.ticks import Ticks
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

LEASE_SWEEP_INTERVAL_S = 1.0

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
        models_dir = _private_directory(data_dir / "models")
        database = await Database.open(data_dir / "hearth.db")
        closing.push_async_callback(database.close)

        identity = Identity(database, config.identity)
        await identity.ensure_first_start(data_dir)
        models = _build_models(config, database, data_dir)
        await models.sweep()
        await models.install_builtin()

        inventory = discover_inventory(config.fleet)
        supervisor = Supervisor(config.fleet, database, inventory, models_dir, data_dir / "run")
        models.on_delete = supervisor.weight_cache.forget
        box = Box(
            devices=inventory.devices,
            notify=supervisor.notify,
            num_in_flight=lambda *key: sum(view.num_in_flight for view in supervisor.replicas(*key)),
        )
        deployments = Deployments(database, config, box)
        adapters = Adapters(config.fleet, database, models_dir, supervisor, supervisor.announce)
        deployed_models = DeployedModels(database, config.identity, config.fleet, adapters.notify)
        adapters.observer = deployed_models
        supervisor.observer = deployments
        leases = Leases(database, supervisor, config.fleet, config.identity)
        await leases.restore()
        await supervisor.start()
        closing.push_async_callback(supervisor.close, config.server.drain_s)
        await adapters.start()
        closing.push_async_callback(adapters.close)

        metrics, loads = Metrics(), Loads()
        inference = Inference(config, deployments, Router(supervisor, config.fleet, adapters), metrics, loads)
        node = build_node(config, database, supervisor, inventory, metrics, loads, leases)
        shapes = DeploymentShapes(database, config, inventory.devices)
        services = Services(config, identity, models, deployments, deployed_models, shapes, inference, node)
        autoscaler = _build_autoscaler(config, database, supervisor, loads)
        closing.push_async_callback(autoscaler.close)
        ticks = Ticks()
        autoscaler.join(ticks)
        ticks.add(leases.sweep, LEASE_SWEEP_INTERVAL_S)
        await ticks.start()
        closing.push_async_callback(ticks.close)
        server = HttpServer(build_app(services), config.server)
        base_url = await _listen(server, config.server)
        closing.push_async_callback(server.close)
        yield Daemon(base_url, services, database.failed)
        logger.info("stopping: no new requests; running ones have %g s", config.server.drain_s)


async def _listen(server: HttpServer, settings: ServerSettings) -> str:
    try:
        return await server.start()
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise HearthError(Code.INVALID, f"cannot listen on {address}: {error.strerror}", "port") from error


def _build_models(config: Config, database: Database, data_dir: Path) -> Models:
    return Models(
        database,
        config.identity,
        models_dir=data_dir / "models",
        uploads_dir=_private_directory(data_dir / "uploads"),
        signing_key=load_signing_key(data_dir / "signing-key"),
        file_bytes_max=config.server.max_file_bytes,
        builtin=BUILTIN,
    )


def build_node(
    config: Config,
    database: Database,
    supervisor: Supervisor,
    inventory: Inventory,
    metrics: Metrics,
    loads: Loads,
    leases: Leases,
) -> Node:
    device_metrics = DeviceMetrics(supervisor, inventory)
    metrics.registry.register(device_metrics)
    metrics.registry.register(ReplicaMetrics(supervisor.all_replicas))
    metrics.observe_looks(lambda: supervisor.num_looks, lambda: supervisor.look_s)
    account_metrics = AccountMetrics(
        loads, supervisor.deployments_of, lambda code: WIRE[code].status, config.fleet.max_num_requests
    )
    return Node(database, supervisor, inventory, metrics, device_metrics, account_metrics, loads, leases)


def _build_autoscaler(config: Config, database: Database, supervisor: Supervisor, loads: Loads) -> Autoscaler:
    return Autoscaler(
        config.fleet,
        database,
        loads,
        list_replicas=supervisor.replicas,
        notify=supervisor.notify,
        purge_s=config.deployment_purge_s,
    )


def _private_directory(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path
