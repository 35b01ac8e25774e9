"""A real worker of two processes, seen from the daemon's end, and the calls that go to all ranks."""

import sys
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from appliance.orchestrator.process import WorkerProcess, prepare_run_dir
from appliance.orchestrator.worker_client import WorkerClient
from models.llm_folder import inspect_llm
from runtime.device_memory import DeviceMemory
from runtime.engine import LoadRefused
from runtime.llm.adapters.adapter import LoraAdapter
from runtime.llm.forward import TokenRow
from runtime.llm.load import load_llm
from runtime.llm.parallel.leader import Ranks, SharedMemory
from runtime.protocol import Load, Submit
from runtime.settings import DraftModel, Speculation
from runtime.submission import SamplingParams, TokenPrompt
from tests.fakes.fake_gpus import fake_device
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import build_tiny_model
from tests.fakes.tiny_parts import CPU, load_tiny, settings_of

PROMPT = list(range(3, 30))
NUM_TOKENS = 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("qwen2"), "qwen2")


async def test_a_worker_on_two_devices_answers_like_one_sleeps_and_ends_with_its_rank(
    directory: Path, tmp_path: Path
) -> None:
    """It has a draft model, too, which is whole in its first process."""
    (expected,) = token_ids(run(TinyModel(directory).engine(), [make_request(PROMPT, max_tokens=NUM_TOKENS)]))
    command = [sys.executable, "-m", "runtime", "--kind", "llm"]
    devices = [fake_device(0), fake_device(1)]
    worker = await WorkerProcess.spawn(command, prepare_run_dir(tmp_path / "run"), "two", devices, num_threads=1)
    client = WorkerClient(*await worker.accept(), worker.pid)
    await client.greet()
    loaded = await client.load(_load(directory, speculation=_own_draft(directory)))
    assert 0 < loaded.kv_bytes < loaded.footprint_bytes
    assert await answer(client, "1") == expected
    assert await client.sleep() > 2 * 100 * 2**20, "of both processes"
    assert (await client.wake()).keys() == {"weights", "kv-cache"}
    assert await answer(client, "2") == expected
    (rank,) = [each for each in psutil.Process(worker.pid).children() if "--rank 1" in " ".join(each.cmdline())]
    rank.kill()
    assert await worker.wait() == "the worker exited with status 1"
    await client.close("the test is over")
    await worker.close()


def test_ranks_sleep_and_wake_together(directory: Path, ranks: Ranks) -> None:
    tiny = load_tiny(directory, ranks)
    expected = tiny.logits()
    memory = SharedMemory(DeviceMemory(CPU, [tiny.attention]), ranks)
    assert memory.sleep() > 0
    assert memory.wake().keys() == {"weights", "kv-cache"}
    assert (tiny.logits() == expected).all()
    assert ranks.most_held() > 100 * 2**20


def test_a_rank_that_cannot_load_its_part_says_why_and_can_be_asked_again(directory: Path, ranks: Ranks) -> None:
    settings = settings_of(num_devices=2, device="cuda:0")
    ranks.load(directory, inspect_llm(directory), settings, 4)
    with pytest.raises(LoadRefused, match="CUDA"):
        ranks.finish_load(CPU)
    load_tiny(directory, ranks).logits()


def test_what_a_follower_does_not_know_is_not_asked_of_it(ranks: Ranks) -> None:
    with pytest.raises(AssertionError, match="refused"):
        ranks.compute([TokenRow([1], 0, [1], adapter=LoraAdapter({}, {}))], [])


def test_what_is_not_served_over_several_devices_is_refused_before_anything_is_loaded(directory: Path) -> None:
    for changes, reason in (
        ({"num_devices": 3}, "4 attention heads"),
        ({"num_devices": 2, "max_num_adapters": 1}, "addons"),
    ):
        with pytest.raises(LoadRefused, match=reason):
            load_llm(_load(directory, **changes), lambda stage, done: None)


def _load(directory: Path, **changes: object) -> Load:
    settings = settings_of(**{"num_devices": 2, "max_num_requests": 4, **changes})
    return Load(model_dir=str(directory), file_sha256=inspect_llm(directory).file_sha256, settings=settings)


def _own_draft(directory: Path) -> Speculation:
    file_sha256 = inspect_llm(directory).file_sha256
    return Speculation(draft_model=DraftModel(model_dir=str(directory), file_sha256=file_sha256))


async def answer(client: WorkerClient, request_id: str) -> list[int]:
    submit = Submit(
        request_id=request_id,
        prompt=TokenPrompt(token_ids=PROMPT),
        max_tokens=NUM_TOKENS,
        ignore_eos=True,
        sampling=SamplingParams(temperature=0),
    )
    async with aclosing(client.generate(submit)) as outputs:
        return [token_id async for deltas in outputs for delta in deltas for token_id in delta.token_ids]
