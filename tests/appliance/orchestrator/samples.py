"""Rows and settings that the orchestrator's tests start from."""

import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from appliance.config import GIB, FleetSettings
from appliance.domain import Deployment, DeploymentState, Model, ModelState
from appliance.orchestrator.assignment import ReplicaPlan
from appliance.orchestrator.launching import Launcher, ProcessLauncher
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.replica import Surroundings
from appliance.orchestrator.spares import Spares
from appliance.store.database import Database
from models.info import AttentionInfo, ModelInfo
from runtime.protocol import Load
from runtime.settings import LlmSettings
from tests.fakes.fake_gpus import FakeInventory, fake_device

FAKE_WORKER = [sys.executable, "-m", "tests.fakes.fake_worker"]


def sample_settings(**changes: Any) -> FleetSettings:
    """Fake workers, quick retries, no spare workers and nobody asleep unless a test wants it.

    Timeouts stay long: a loaded machine must not look like a fault.
    """
    settings = FleetSettings(
        worker_command=FAKE_WORKER,
        backoff_first_s=0.01,
        supervisor_interval_s=0.2,
        num_spare_workers=0,
        host_cache_bytes=0,
    )
    return msgspec.structs.replace(settings, **changes)


def sample_surroundings(
    settings: FleetSettings,
    database: Database,
    inventory: FakeInventory,
    run_dir: Path = Path("/nowhere"),
    launcher: Launcher | None = None,
) -> Surroundings:
    """Of replicas that start processes in `run_dir`, which is there, unless the launcher does otherwise."""
    quiet = Quiet(settle_s=0.0)
    spares = Spares(settings, database, inventory, Ledger(inventory.devices), quiet)
    launcher = launcher or ProcessLauncher(settings, run_dir, spares)
    return Surroundings(settings, database, inventory, launcher, quiet, time.time)


def llm_settings(plan: ReplicaPlan) -> LlmSettings:
    assert isinstance(plan.load.settings, LlmSettings)
    return plan.load.settings


def sample_plan(**changes: Any) -> ReplicaPlan:
    llm = LlmSettings(device="cpu", dtype="float32", memory_budget_bytes=1, max_context_length=64, num_threads=1)
    plan = ReplicaPlan(
        account_id="acme",
        deployment_id="d",
        deployment_name="accounts/acme/deployments/d",
        index=0,
        devices=(fake_device(),),
        reserved_bytes=1,
        host_bytes=1,
        load=Load(model_dir="/m", file_sha256={}, settings=llm),
    )
    return msgspec.structs.replace(plan, **changes)


def sample_info(gigabytes: float = 1.0, dtype: str = "bfloat16") -> ModelInfo:
    """A model of about so much weight."""
    num_parameters = int(gigabytes * GIB / 2)
    return ModelInfo(
        architecture="LlamaForCausalLM",
        model_type="llama",
        dtype=dtype,
        num_parameters=num_parameters,
        weight_bytes=2 * num_parameters,
        tied_embeddings=False,
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=256,
        attention=AttentionInfo(num_layers=2, num_heads=4, num_kv_heads=2, head_size=16, value_head_size=16),
        max_context_length=2048,
        has_chat_template=True,
        eos_token_ids=[0],
    )


def sample_model(model_id: str = "m", gigabytes: float = 1.0) -> Model:
    return Model(
        account_id="acme",
        id=model_id,
        state=ModelState.READY,
        directory=model_id,
        info=sample_info(gigabytes),
        created_at=0.0,
        updated_at=0.0,
    )


def sample_deployment(**changes: Any) -> Deployment:
    deployment = Deployment(
        account_id="acme",
        id="d",
        base_model="accounts/acme/models/m",
        state=DeploymentState.CREATING,
        max_replica_count=4,
        desired_replica_count=1,
        created_at=0.0,
        updated_at=0.0,
    )
    return msgspec.structs.replace(deployment, **changes)
