"""The only wiring file: start everything in order, close in reverse.

What is built here is handed down as values; nothing finds its collaborators by itself. `run` is `hearth serve`.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import NamedTuple

from appliance.api.app import build_app
from appliance.api.errors import WIRE
from appliance.api.routing import DatasetServices, Node, Services, Tenancy
from appliance.api.server import HttpServer
from appliance.config import Config, ServerSettings, service_environment
from appliance.errors import Code, HearthError
from appliance.live_config import LiveConfig
from appliance.logs import configure_logging
from appliance.operations.reloading import Reloader
from appliance.operations.service_manager import ServiceManager
from appliance.operations.watchdog import Watchdog
from appliance.orchestrator.adapters import Adapters
from appliance.orchestrator.gpus import Inventory, discover_inventory
from appliance.orchestrator.router import Router
from appliance.orchestrator.supervisor import Supervisor
from appliance.services.account_metrics import AccountMetrics
from appliance.services.accounting import Accounting
from appliance.services.accounts import Accounts
from appliance.services.api_keys import ApiKeys
from appliance.services.audit_denials import FLUSH_INTERVAL_S, AuditDenials
from appliance.services.audit_head import WRITE_INTERVAL_S, AuditHead
from appliance.services.audit_logs import AuditLogs
from appliance.services.autoscaler import Autoscaler
from appliance.services.dataset_checking import DatasetChecker
from appliance.services.dataset_chunks import DatasetChunks
from appliance.services.dataset_uploads import DatasetUploads
from appliance.services.datasets import Datasets
from appliance.services.deployed_models import DeployedModels
from appliance.services.deployments import Box, Deployments
from appliance.services.device_metrics import DeviceMetrics
from appliance.services.first_start import ensure_first_start
from appliance.services.identity import Identity
from appliance.services.identity_providers import IdentityProviders
from appliance.services.imports import Imports
from appliance.services.inference import Inference
from appliance.services.keyring import Keyring, load_keyring
from appliance.services.leases import Leases
from appliance.services.loads import Loads
from appliance.services.metrics import Metrics
from appliance.services.model_files import ModelFiles
from appliance.services.models import Models
from appliance.services.own_shapes import OwnShapes
from appliance.services.preparations import Preparations
from appliance.services.replica_metrics import ReplicaMetrics
from appliance.services.reservations import Reservations
from appliance.services.secrets import Secrets
from appliance.services.shape_matching import DeploymentShapes
from appliance.services.ticks import Ticks
from appliance.services.transfers import Transfers
from appliance.services.users import Users
from appliance.store.audit_chain import has_rows
from appliance.store.database import Database
from appliance.store.lock import lock_data_dir
from models.builtin import BUILTIN_MODELS

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_IO_ERROR = 74
"""sysexits.h EX_IOERR: the state can no longer be written; a new start may help."""
EXIT_LOCKED = 75
"""EX_TEMPFAIL: another daemon owns the data directory."""
EXIT_CONFIG = 78
"""EX_CONFIG: starting again will not help."""

LEASE_SWEEP_INTERVAL_S = 1.0
UPLOAD_SWEEP_INTERVAL_S = 3600.0


class Daemon(NamedTuple):
    base_url: str
    services: Services
    failed: asyncio.Event
    """Set when the state can no longer be written."""


def run(load: Callable[[], Config]) -> int:
    """Serve until SIGTERM or SIGINT (0), or until the state store fails (74). SIGHUP loads the configuration again."""
    try:
        config = load()
        configure_logging(config.log)
        return asyncio.run(_run(config, load))
    except HearthError as error:
        print(f"hearth: {error.message}", file=sys.stderr)
        return EXIT_LOCKED if error.reason == "LOCKED" else EXIT_CONFIG


async def _run(config: Config, load: Callable[[], Config]) -> int:
    stop, hangups = asyncio.Event(), asyncio.Event()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, hangups)):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    service_manager = ServiceManager(service_environment())
    async with running_daemon(config) as daemon:
        print(f"hearth is ready at {daemon.base_url}", flush=True)
        status = f"serving at {daemon.base_url}"
        service_manager.ready(status)
        node = daemon.services.node
        watchdog = Watchdog(service_manager, node.database, node.supervisor, config.fleet.supervisor_interval_s)
        reloader = Reloader(daemon.services.live, load, service_manager, status)
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(watchdog.feed()), group.create_task(reloader.follow(hangups))]
            ends = {group.create_task(stop.wait()), group.create_task(daemon.failed.wait())}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (*beside, *ends):
                task.cancel()
        service_manager.stopping(f"no new requests; running ones have {config.server.drain_s:g} s")
    return EXIT_IO_ERROR if daemon.failed.is_set() else EXIT_OK


@asynccontextmanager
async def running_daemon(config: Config) -> AsyncIterator[Daemon]:
    """Everything, from the lock on the data directory to the listening socket; raises HearthError when it cannot be."""
    data_dir = config.data_dir.expanduser().absolute()
    async with AsyncExitStack() as closing:
        closing.enter_context(lock_data_dir(data_dir))
        state = await _open_state(config, data_dir, closing)
        keyring, database = state.keyring, state.database
        await ensure_first_start(database, config.identity, data_dir)
        identity = Identity(database)
        closing.push_async_callback(identity.close)
        storage = await _open_storage(config, database, keyring, data_dir, closing)
        fleet = await _start_fleet(config, database, storage, data_dir, closing)
        live = LiveConfig(config)
        accounting = Accounting(config, database, fleet.inventory.devices, fleet.supervisor.all_replicas)
        await accounting.restore()
        closing.push_async_callback(accounting.close)
        metrics, loads = Metrics(), Loads()
        metrics.observe_audit_losses(lambda: len(state.audit_head.problems))
        router = Router(fleet.supervisor, config.fleet, fleet.adapters)
        services = Services(
            live=live,
            identity=identity,
            tenancy=build_tenancy(config, database, keyring, identity),
            accounting=accounting,
            **storage._asdict(),
            deployments=fleet.deployments,
            deployed_models=fleet.deployed_models,
            deployment_shapes=DeploymentShapes(database, config, fleet.inventory.devices),
            own_shapes=OwnShapes(database, config, fleet.inventory.devices),
            reservations=Reservations(database, config.identity, fleet.inventory.devices, fleet.supervisor.notify),
            inference=Inference(live, fleet.deployments, accounting.admission, router, metrics, loads),
            node=build_node(config, database, fleet.supervisor, fleet.inventory, metrics, loads, fleet.leases),
            audit_logs=AuditLogs(database, config.identity, state.denials),
            page_token_key=keyring.derive("page-tokens/v1"),
        )
        autoscaler = _build_autoscaler(config, database, fleet.supervisor, loads)
        closing.push_async_callback(autoscaler.close)
        await _start_ticks(config, state, services, autoscaler, closing)
        server = HttpServer(build_app(services), config.server)
        base_url = await _listen(server, config.server)
        closing.push_async_callback(server.close)
        yield Daemon(base_url, services, database.failed)
        logger.info("stopping: no new requests; running ones have %g s", config.server.drain_s)


async def _start_ticks(
    config: Config, state: "State", services: Services, autoscaler: Autoscaler, closing: AsyncExitStack
) -> None:
    """What happens again and again by itself."""
    ticks = Ticks()
    autoscaler.join(ticks)
    services.accounting.join(ticks)
    ticks.add(services.node.leases.sweep, LEASE_SWEEP_INTERVAL_S)
    ticks.add(services.transfers.sweep, UPLOAD_SWEEP_INTERVAL_S)
    ticks.add(services.identity.flush_used, config.identity.key_use_flush_s)
    ticks.add(state.denials.flush, FLUSH_INTERVAL_S)
    ticks.add(state.audit_head.write, WRITE_INTERVAL_S)
    await ticks.start()
    closing.push_async_callback(ticks.close)


class Fleet(NamedTuple):
    """The devices, and what is desired of them."""

    inventory: Inventory
    supervisor: Supervisor
    adapters: Adapters
    deployments: Deployments
    deployed_models: DeployedModels
    leases: Leases


async def _start_fleet(
    config: Config, database: Database, storage: "Storage", data_dir: Path, closing: AsyncExitStack
) -> Fleet:
    """Observers see whom they observe only after both are there, hence the assignments."""
    inventory, models_dir = discover_inventory(config.fleet), data_dir / "models"
    supervisor = Supervisor(config.fleet, database, inventory, models_dir, data_dir / "run")
    storage.models.on_delete = supervisor.weight_cache.forget
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
    return Fleet(inventory, supervisor, adapters, deployments, deployed_models, leases)


class State(NamedTuple):
    """What is written down, and what guards it."""

    keyring: Keyring
    database: Database
    audit_head: AuditHead
    denials: AuditDenials


async def _open_state(config: Config, data_dir: Path, closing: AsyncExitStack) -> State:
    """No new master key where there is something that was written with one."""
    path = data_dir / "hearth.db"
    has_history = await asyncio.to_thread(has_rows, path)
    keyring = load_keyring(config.master_key_file or data_dir / "master-key", may_make=not has_history)
    audit_key = keyring.derive("audit/v1")
    database = await Database.open(path, audit_key)
    closing.push_async_callback(database.close)
    audit_head = AuditHead(database, path, audit_key)
    await audit_head.begin(config.identity.account_id, f"version {distribution_version('hearth')}")
    closing.push_async_callback(audit_head.close)
    denials = AuditDenials(database, config.identity.account_id)
    closing.push_async_callback(denials.close)
    return State(keyring, database, audit_head, denials)


class Storage(NamedTuple):
    """What keeps files, and how they come and go."""

    transfers: Transfers
    model_files: ModelFiles
    models: Models
    imports: Imports
    preparations: Preparations
    datasets: DatasetServices


async def _open_storage(
    config: Config, database: Database, keyring: Keyring, data_dir: Path, closing: AsyncExitStack
) -> Storage:
    """Swept of what a crash left, and with the built-in model."""
    uploads_dir, models_dir = _private_directory(data_dir / "uploads"), _private_directory(data_dir / "models")
    transfers = Transfers(uploads_dir, keyring.derive("signed-urls/v1"), config.server.max_file_bytes)
    model_files = ModelFiles(database, config.identity, transfers, models_dir=models_dir)
    models = Models(database, config.identity, model_files, uploads_dir=uploads_dir, builtins=BUILTIN_MODELS)
    datasets = build_datasets(config, database, transfers, _private_directory(data_dir / "datasets"), uploads_dir)
    closing.push_async_callback(datasets.uploads.close)
    imports = Imports(database, config.imports, config.identity, transfers, model_files, models)
    closing.push_async_callback(imports.close)
    preparations = Preparations(database, transfers, model_files)
    closing.push_async_callback(preparations.close)
    await model_files.sweep()
    await datasets.rows.sweep()
    await transfers.sweep_leftovers()
    await imports.restore()
    await models.install_builtin()
    await preparations.restore()
    return Storage(transfers, model_files, models, imports, preparations, datasets)


async def _listen(server: HttpServer, settings: ServerSettings) -> str:
    try:
        return await server.start()
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise HearthError(Code.INVALID, f"cannot listen on {address}: {error.strerror}", "port") from error


def build_datasets(
    config: Config, database: Database, transfers: Transfers, datasets_dir: Path, uploads_dir: Path
) -> DatasetServices:
    """Both directories exist."""
    rows = Datasets(database, config.datasets, config.identity, transfers, datasets_dir)
    checker = DatasetChecker(config.datasets)
    return DatasetServices(
        rows=rows,
        uploads=DatasetUploads(database, rows, checker, transfers, uploads_dir),
        chunks=DatasetChunks(database, rows, checker, uploads_dir),
    )


def build_tenancy(config: Config, database: Database, keyring: Keyring, identity: Identity) -> Tenancy:
    return Tenancy(
        accounts=Accounts(database, config.identity, identity),
        users=Users(database, identity),
        api_keys=ApiKeys(database, identity),
        secrets=Secrets(database, keyring),
        identity_providers=IdentityProviders(database, keyring),
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
