"""The whole API on a loopback port: real store, services and server; the router and its workers follow a script."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from appliance.api.app import build_app
from appliance.api.routing import Services
from appliance.api.server import HttpServer
from appliance.config import GIB, Config, FleetSettings, IdentitySettings, ImportSettings, LimitSettings, ServerSettings
from appliance.daemon import build_datasets, build_node, build_tenancy
from appliance.domain import (
    Account,
    ApiKey,
    DeployedModel,
    DeployedModelState,
    Deployment,
    DeploymentState,
    Model,
    ModelState,
    Role,
    User,
)
from appliance.live_config import LiveConfig
from appliance.orchestrator.supervisor import Supervisor
from appliance.services.accounting import Accounting
from appliance.services.audit_denials import AuditDenials
from appliance.services.audit_logs import AuditLogs
from appliance.services.deployed_models import DeployedModels
from appliance.services.deployments import Box, Deployments
from appliance.services.identity import Identity
from appliance.services.imports import Imports
from appliance.services.inference import Inference
from appliance.services.key_format import format_key, generate_key
from appliance.services.keyring import Keyring
from appliance.services.leases import Leases
from appliance.services.loads import Loads
from appliance.services.metrics import Metrics
from appliance.services.model_files import ModelFiles
from appliance.services.models import Models
from appliance.services.own_shapes import OwnShapes
from appliance.services.preparations import Preparations
from appliance.services.reservations import Reservations
from appliance.services.shape_matching import DeploymentShapes
from appliance.services.transfers import Transfers
from appliance.store import accounts, api_keys, deployed_models, deployments, models, users
from appliance.store.database import Database, Transaction
from models.builtin import BuiltinModel
from models.info import AttentionInfo, ModelInfo
from tests.fakes.fake_gpus import FakeInventory, fake_device
from tests.fakes.fake_router import FakeRouter

READY_MODEL = "accounts/fireworks/models/tiny"
ASLEEP_MODEL = "accounts/hearth/models/asleep"
UNDEPLOYED_MODEL = "accounts/hearth/models/undeployed"
FOREIGN_MODEL = "accounts/other/models/private"
VOCAB_SIZE = 100
DEVICES = [fake_device(0), fake_device(1)]
DEFAULT_TEMPERATURE = 0.6

INFO = ModelInfo(
    architecture="LlamaForCausalLM",
    model_type="llama",
    dtype="float32",
    num_parameters=1000,
    weight_bytes=4000,
    tied_embeddings=True,
    vocab_size=VOCAB_SIZE,
    hidden_size=8,
    intermediate_size=16,
    attention=AttentionInfo(num_layers=1, num_heads=2, num_kv_heads=1, head_size=8, value_head_size=8),
    max_context_length=512,
    has_chat_template=True,
    eos_token_ids=[0],
    default_sampling={"temperature": DEFAULT_TEMPERATURE},
)


class Api:
    """What a test holds: the address, a session bound to it, a key for each role, and what is behind."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        keys: dict[Role, str],
        services: Services,
        router: FakeRouter,
        app: web.Application,
    ) -> None:
        self.url = url
        self.session = session
        self.keys = keys
        self.services = services
        self.router = router
        self.app = app

    def bearer(self, role: Role = Role.USER) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[role]}"}

    @staticmethod
    def filled(path: str) -> str:
        """A route's path with something in the place of each parameter."""
        return re.sub(r"\{[^}]*\}", "something", path)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        data_dir=tmp_path,
        server=ServerSettings(port=0, forecast_interval_s=0.05),
        identity=IdentitySettings(failed_auth_per_minute=100),
        limits=LimitSettings(requests_in_flight_max=64),
        imports=ImportSettings(import_roots=[str(Path(__file__).parent)]),
        fleet=FleetSettings(cold_start_wait_s=12.5),
    )


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "hearth.db", bytes(32))
    yield opened
    await opened.close()


@pytest.fixture
async def api(config: Config, database: Database, tmp_path: Path) -> AsyncIterator[Api]:
    keys = await fill(database)
    router = FakeRouter()
    services = build_services(config, database, router, tmp_path)
    app = build_app(services)
    server = HttpServer(app, config.server)
    url = await server.start()
    async with aiohttp.ClientSession(url) as session:
        yield Api(url, session, keys, services, router, app)
    await server.close(drain_s=5.0)


def build_services(config: Config, database: Database, router: FakeRouter, root: Path) -> Services:
    for name in ("models", "datasets", "uploads", "run"):
        (root / name).mkdir()
    inventory = FakeInventory()
    live = LiveConfig(config)
    supervisor = Supervisor(config.fleet, database, inventory, root / "models", root / "run")
    metrics, loads = Metrics(), Loads()
    box = Box(devices=DEVICES, notify=supervisor.notify, num_in_flight=lambda account, id: 0)
    deployments_service = Deployments(database, config, box)
    identity = Identity(database)
    accounting = Accounting(config, database, DEVICES, supervisor.all_replicas)
    transfers = Transfers(root / "uploads", b"k" * 32, GIB)
    model_files = ModelFiles(database, config.identity, transfers, models_dir=root / "models")
    builtin = BuiltinModel("ember-chat", root / "no-such-directory", "Ember")
    models_service = Models(database, config.identity, model_files, uploads_dir=root / "uploads", builtins=[builtin])
    return Services(
        live=live,
        identity=identity,
        tenancy=build_tenancy(config, database, Keyring(bytes(32)), identity),
        accounting=accounting,
        transfers=transfers,
        model_files=model_files,
        models=models_service,
        preparations=Preparations(database, transfers, model_files),
        imports=Imports(database, config.imports, config.identity, transfers, model_files, models_service),
        datasets=build_datasets(config, database, transfers, root / "datasets", root / "uploads"),
        deployments=deployments_service,
        deployment_shapes=DeploymentShapes(database, config, DEVICES),
        own_shapes=OwnShapes(database, config, DEVICES),
        reservations=Reservations(database, config.identity, DEVICES, supervisor.notify),
        deployed_models=DeployedModels(database, config.identity, config.fleet, notify=supervisor.notify),
        inference=Inference(live, deployments_service, accounting.admission, router, metrics, loads),
        node=build_node(
            config,
            database,
            supervisor,
            inventory,
            metrics,
            loads,
            Leases(database, supervisor, config.fleet, config.identity),
        ),
        audit_logs=AuditLogs(database, config.identity, AuditDenials(database, config.identity.account_id)),
        page_token_key=b"p" * 32,
    )


async def fill(database: Database) -> dict[Role, str]:
    """Three accounts, a user and a key for each role, and models that are ready, asleep, undeployed and private."""
    async with database.transaction() as tx:
        for account_id in ("hearth", "fireworks", "other"):
            await accounts.insert(tx, Account(id=account_id, created_at=tx.now, updated_at=tx.now))
        keys = {role: await add_key(tx, role) for role in Role}
        for name in (READY_MODEL, ASLEEP_MODEL, UNDEPLOYED_MODEL, FOREIGN_MODEL):
            await add_model(tx, name)
        await add_deployment(tx, READY_MODEL, desired_replica_count=1)
        await add_deployment(tx, ASLEEP_MODEL, desired_replica_count=0)
        await add_deployment(tx, FOREIGN_MODEL, desired_replica_count=1)
    return keys


async def add_key(tx: Transaction, role: Role) -> str:
    user = User(account_id="hearth", id=role.value, role=role, created_at=tx.now, updated_at=tx.now)
    await users.insert(tx, user)
    parts = generate_key()
    key = ApiKey(
        account_id="hearth", user_id=user.id, id=parts.id, secret_sha256=parts.secret_sha256, created_at=tx.now
    )
    await api_keys.insert(tx, key)
    return format_key(parts)


async def add_model(tx: Transaction, name: str) -> None:
    _, account_id, _, model_id = name.split("/")
    model = Model(
        account_id=account_id,
        id=model_id,
        state=ModelState.READY,
        directory=f"{account_id}-{model_id}",
        info=INFO,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await models.insert(tx, model)


async def add_deployment(tx: Transaction, model_name: str, desired_replica_count: int) -> None:
    _, account_id, _, model_id = model_name.split("/")
    deployment = Deployment(
        account_id=account_id,
        id=f"{model_id}-deployment",
        base_model=model_name,
        state=DeploymentState.READY,
        desired_replica_count=desired_replica_count,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await deployments.insert(tx, deployment)
    deployed = DeployedModel(
        account_id=account_id,
        id=f"{model_id}-deployed",
        model=model_name,
        deployment=deployment.name,
        is_default=True,
        state=DeployedModelState.DEPLOYED,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await deployed_models.insert(tx, deployed)
