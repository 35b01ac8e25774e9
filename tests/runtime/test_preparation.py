"""A spare worker from its start to an answer, and a nap after it, as the daemon sees it: the real process."""

import sys
from contextlib import aclosing
from pathlib import Path

import psutil

from appliance.orchestrator.process import WorkerProcess, prepare_run_dir
from appliance.orchestrator.worker_client import WorkerClient
from models.llm_folder import inspect_llm
from runtime.preparation import prepare
from runtime.protocol import Load, Submit
from runtime.settings import LlmSettings
from runtime.submission import SamplingParams, TextPrompt
from tests.fakes.fake_gpus import fake_device
from tests.fakes.tiny_llm import build_tiny_model
from tests.waiting import until

MIB = 1024 * 1024


async def test_a_spare_worker_prepares_loads_answers_sleeps_and_wakes(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path / "model", "llama")
    command = [sys.executable, "-m", "runtime", "--kind", "spare"]
    worker = await WorkerProcess.spawn(
        command, prepare_run_dir(tmp_path / "run"), "spare", [fake_device()], num_threads=1
    )
    client = WorkerClient(*await worker.accept(), worker.pid)
    await client.greet()
    assert (await client.prepared).footprint_bytes > 100 * MIB
    assert title(worker) == "python -m runtime --kind spare"

    loaded = await client.load(_load(directory))
    assert title(worker) == "python -m runtime --kind llm --deployment accounts/a/deployments/d --replica 3"
    assert 0 < loaded.kv_bytes < loaded.footprint_bytes
    assert list(loaded.load_ms)[:2] == ["imports", "device"]
    before = await answer(client, "1")
    assert await client.sleep() > 100 * MIB
    assert (await client.wake()).keys() == {"weights", "kv-cache"}
    assert await answer(client, "2") == before
    await until(lambda: client.vitals.heartbeat and client.vitals.heartbeat.num_generated_tokens == 12)
    client.shut_down()
    assert await worker.wait() == "the worker exited with status 0"
    await client.close("the test is over")
    await worker.close()


def test_preparing_holds_what_is_measured() -> None:
    assert prepare() > 100 * MIB


def title(worker: WorkerProcess) -> str:
    return " ".join(psutil.Process(worker.pid).cmdline()).strip()


def _load(directory: Path) -> Load:
    return Load(
        model_dir=str(directory),
        file_sha256=inspect_llm(directory).file_sha256,
        settings=LlmSettings(
            device="cpu", dtype="float32", memory_budget_bytes=600 * MIB, max_context_length=256, max_num_requests=4
        ),
        deployment="accounts/a/deployments/d",
        replica=3,
    )


async def answer(client: WorkerClient, request_id: str) -> list[int]:
    submit = Submit(
        request_id=request_id,
        prompt=TextPrompt(text="the kettle sings"),
        max_tokens=6,
        ignore_eos=True,
        sampling=SamplingParams(temperature=0),
    )
    async with aclosing(client.generate(submit)) as outputs:
        return [token_id async for deltas in outputs for delta in deltas for token_id in delta.token_ids]
