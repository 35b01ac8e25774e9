"""From a request for a deployment that was scaled to zero to its first token, through the daemon, phase by phase.

The checkpoint has the shape of Qwen2.5-0.5B, random weights in bfloat16, and a vocabulary of full size. One JSON line
per row: the median of the rounds, and the phases of the round that is the median. `scripts/bench cold_start`
"""

import argparse
import asyncio
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from appliance.config import Config, FleetSettings, ServerSettings
from appliance.daemon import Daemon, running_daemon
from appliance.domain import Model, ModelState
from appliance.orchestrator.supervisor import Supervisor
from appliance.store import models
from benchmarks.engine_checkpoint import MODEL_FOLDER, make_checkpoint
from benchmarks.engine_side import VOCAB_SIZE
from benchmarks.full_vocabulary import write_full_vocabulary
from models.llm_folder import inspect_llm

MODEL_ID, DEPLOYMENT_ID = "half-billion", "cold-start"
PATIENCE_S = 120.0
WEIGHTS = "model.safetensors"


class Row(NamedTuple):
    name: str
    conditions: str
    settings: dict[str, Any]
    target_s: float | None = None
    is_on_disk: bool = False
    """Whether the page cache is asked to forget the weights before each request."""


ROWS = [
    Row("disk", "new process, weights on disk", {"num_spare_workers": 0, "host_cache_bytes": 0}, is_on_disk=True),
    Row("cold", "new process, weights in the page cache", {"num_spare_workers": 0, "host_cache_bytes": 0}, 6.0),
    Row("spare", "spare worker, weights in the page cache", {"num_spare_workers": 1, "host_cache_bytes": 0}, 1.5),
    Row("kept", "spare worker, weights held in host memory", {"num_spare_workers": 1}, 1.5, is_on_disk=True),
    Row("asleep", "worker asleep on a simulated GPU", {"simulated_gpus": "1xNVIDIA_H100_80GB"}, 1.5),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / "hearth-benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="*", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    arguments = parser.parse_args()
    checkpoint = make_full_checkpoint(arguments.directory)
    for row in ROWS:
        if row.name in arguments.rows:
            # Beside the checkpoint, so that its files can be linked to.
            with tempfile.TemporaryDirectory(dir=arguments.directory) as data_dir:
                result = asyncio.run(measure(row, checkpoint, Path(data_dir), arguments.rounds))
            print(json.dumps(result), flush=True)


def make_full_checkpoint(directory: Path) -> Path:
    small = directory / MODEL_FOLDER
    make_checkpoint(small)
    full = directory / f"{MODEL_FOLDER}-full-vocabulary"
    if not (full / "tokenizer.json").exists():
        full.mkdir(exist_ok=True)
        link_files(small, full, without="tokenizer.json")
        write_full_vocabulary(small / "tokenizer.json", full / "tokenizer.json", VOCAB_SIZE)
    return full


def link_files(source: Path, target: Path, without: str = "") -> None:
    for path in source.iterdir():
        if path.name != without and not (target / path.name).exists():
            os.link(path, target / path.name)


async def measure(row: Row, checkpoint: Path, data_dir: Path, num_rounds: int) -> dict[str, Any]:
    config = Config(data_dir=data_dir, server=ServerSettings(port=0), fleet=FleetSettings(**row.settings))
    observer = Observer()
    async with running_daemon(config) as daemon:
        key = (data_dir / "admin-api-key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=daemon.base_url, headers=headers, timeout=PATIENCE_S) as client:
            bench = Bench(daemon, client, observer, row)
            await bench.deploy(checkpoint, data_dir / "models")
            rounds = [await bench.wake() for _ in range(num_rounds + 1)][1:]  # the first has much else to do
    rounds.sort(key=lambda phases: phases["total"])
    phases = rounds[len(rounds) // 2]
    return {
        "row": row.name,
        "first_token_s": round(phases["total"] / 1000, 3),
        "fastest_s": round(rounds[0]["total"] / 1000, 3),
        "slowest_s": round(rounds[-1]["total"] / 1000, 3),
        "target_s": row.target_s,
        "phases_ms": {phase: round(duration) for phase, duration in phases.items() if phase != "total"},
        "conditions": {
            "what": row.conditions,
            "rounds": num_rounds,
            "cpus": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 2),
        },
    }


class Bench:
    """One deployment, put to zero and woken again and again."""

    def __init__(self, daemon: Daemon, client: httpx.AsyncClient, observer: "Observer", row: Row) -> None:
        supervisor = daemon.services.node.supervisor
        assert isinstance(supervisor, Supervisor)
        self._supervisor = supervisor
        self._database = daemon.services.node.database
        self._client = client
        self._observer = observer
        self._row = row
        self._weights = Path()

    async def deploy(self, checkpoint: Path, models_dir: Path) -> None:
        (models_dir / MODEL_ID).mkdir()
        link_files(checkpoint, models_dir / MODEL_ID)
        self._weights = models_dir / MODEL_ID / WEIGHTS
        info = await asyncio.to_thread(inspect_llm, models_dir / MODEL_ID)
        async with self._database.transaction() as tx:
            model = Model(
                account_id="hearth",
                id=MODEL_ID,
                state=ModelState.READY,
                directory=MODEL_ID,
                info=info,
                created_at=tx.now,
                updated_at=tx.now,
            )
            await models.insert(tx, model)
        body = {"baseModel": f"accounts/hearth/models/{MODEL_ID}", "minReplicaCount": 0, "maxContextLength": 2048}
        path = f"/v1/accounts/hearth/deployments?deploymentId={DEPLOYMENT_ID}"
        (await self._client.post(path, json=body)).raise_for_status()

    async def wake(self) -> dict[str, float]:
        """Milliseconds by phase."""
        await self._until(lambda: self._states() == ["READY"])
        path = f"/v1/accounts/hearth/deployments/{DEPLOYMENT_ID}:scale"
        (await self._client.patch(path, json={"replicaCount": 0})).raise_for_status()
        await self._until(lambda: self._states() in ([], ["ASLEEP"]))
        await self._until(self._is_everything_at_hand)
        if self._row.is_on_disk:
            with self._weights.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._observer.clear()
        asked_at = time.time()
        message = {"role": "user", "content": "the hearth keeps the house warm"}
        body = {"model": f"accounts/hearth/deployments/{DEPLOYMENT_ID}", "messages": [message], "max_tokens": 1}
        (await self._client.post("/v1/chat/completions", json=body)).raise_for_status()
        return self._observer.phases(asked_at, time.time())

    def _states(self) -> list[str]:
        return [view.state.value for view in self._supervisor.replicas("hearth", DEPLOYMENT_ID)]

    def _is_everything_at_hand(self) -> bool:
        """Whatever the row's settings keep ready for the next request."""
        is_spare_missing = self._row.settings.get("num_spare_workers") == 1 and not any(
            spare.is_prepared for spare in self._supervisor.spares.views()
        )
        kept = self._supervisor.weight_cache.views()
        return not is_spare_missing and (self._row.name != "kept" or any(view.is_locked for view in kept))

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():  # noqa: ASYNC110 - what is waited for happens in other processes
                await asyncio.sleep(0.05)


class Observer(logging.Handler):
    """Reads phases off the daemon's log: the replica's states, and what its worker says of its load."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._state_at: dict[str, float] = {}
        self._stages_ms: dict[str, float] = {}
        logger = logging.getLogger("appliance.orchestrator")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def clear(self) -> None:
        self._state_at.clear()
        self._stages_ms.clear()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if moved := re.search(r"/replicas/\d+: \w+ -> (\w+)$", text):
            self._state_at[moved[1]] = record.created
        elif re.search(r"/replicas/\d+: INFO runtime\S+: (loaded|awake): ", text):
            self._stages_ms = {stage: float(ms) for stage, ms in re.findall(r"([\w/-]+) (\d+) ms", text)}

    def phases(self, asked_at: float, answered_at: float) -> dict[str, float]:
        """`other` is what passed between them; parts of a stage (`stage/part`) lie within it and beside each other."""
        loading_at, ready_at = self._state_at["LOADING"], self._state_at["READY"]
        started_at = self._state_at.get("STARTING", loading_at)
        load_ms, process_ms = (ready_at - loading_at) * 1000, self._stages_ms.get("process", 0.0)
        stages_ms = sum(duration for stage, duration in self._stages_ms.items() if "/" not in stage)
        return {
            "decision": (started_at - asked_at) * 1000,
            "spawn": (loading_at - started_at) * 1000 - process_ms,
            **self._stages_ms,
            "other": max(0.0, load_ms - (stages_ms - process_ms)),
            "first token": (answered_at - ready_at) * 1000,
            "total": (answered_at - asked_at) * 1000,
        }


if __name__ == "__main__":
    main()
