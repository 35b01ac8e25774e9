"""No step that runs ahead makes the host wait for the device, but for its tokens when it is retired.

On a GPU torch itself watches; without one a list of calls stands for that, and the sampler goes the way that it goes on
a GPU without kernels.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.llm_folder import inspect_llm
from runtime.llm.engine import LaunchedStep, LlmEngine, Runner
from runtime.llm.load import load_llm
from runtime.llm.request import Batch, Generation, Request, TokenOutput
from runtime.llm.sampling import truncation
from runtime.protocol import Load
from runtime.settings import LlmSettings
from runtime.submission import SamplingParams
from tests.fakes.no_waiting import NoWaiting
from tests.fakes.tiny_engine import TinyModel, make_request
from tests.fakes.tiny_llm import build_tiny_model

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

MIB = 2**20
SAMPLINGS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.8),
    SamplingParams(temperature=0.9, top_p=0.9, top_k=30, min_p=0.01),
    SamplingParams(typical_p=0.7),
    SamplingParams(mirostat_target=3.0),
    SamplingParams(logit_bias={5: 4.0}, repetition_penalty=1.2, presence_penalty=0.5),
]


class EvenTokens:
    is_complete = False

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        mask.fill(0x55555555)
        return True

    def accept(self, token_id: int) -> None:
        assert token_id % 2 == 0

    def roll_back(self, num_tokens: int) -> None:
        pass


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


class Watched:
    """A runner whose steps may read nothing before they are asked for their results."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def launch(self, batch: Batch) -> "WatchedStep":
        with NoWaiting():
            return WatchedStep(self._runner.launch(batch))


class WatchedStep:
    def __init__(self, step: LaunchedStep) -> None:
        self._step = step
        self.results = step.results

    def sample(self) -> None:
        with NoWaiting():
            self._step.sample()


def test_between_a_steps_launch_and_its_results_nothing_is_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truncation, "_CANDIDATES", ())
    tiny = TinyModel(directory, dtype=torch.bfloat16)  # of another type than the file, so nothing is read from there
    expected = play(tiny.engine(), "r")
    engine = tiny.engine(look_ahead=True)
    engine._runner = Watched(engine._runner)
    assert play(engine, "r") == expected


def build_engine(directory: Path, *, look_ahead: bool) -> LlmEngine:
    settings = LlmSettings(
        device="cuda:0",
        dtype="float32",
        memory_budget_bytes=2048 * MIB,
        max_context_length=256,
        max_num_requests=16,
        max_batch_tokens=64,
        look_ahead=look_ahead,
    )
    load = Load(model_dir=str(directory), file_sha256=inspect_llm(directory).file_sha256, settings=settings)
    loaded = load_llm(load, lambda stage, done: None)
    loaded.frontend.close()
    assert isinstance(loaded.engine, LlmEngine)
    return loaded.engine


def requests(turn: str) -> Iterator[Request]:
    for i, sampling in enumerate(SAMPLINGS * 2):
        request = make_request(
            [3 + i, 9, 12, 5],
            request_id=f"{turn} {i}",
            sampling=sampling,
            seed=i,
            num_logprobs=2 if i % 3 == 0 else None,
        )
        request.constraint = EvenTokens() if i >= len(SAMPLINGS) else None
        yield request


def play(engine: LlmEngine, turn: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for request in requests(turn):
        engine.add(Generation(request.request_id, [request]))
    while engine.has_work():
        for output in engine.step():
            assert isinstance(output, TokenOutput)
            found.setdefault(output.request_id.removeprefix(turn), []).append(output.token_id)
        engine.check_integrity()
    return found


@needs_gpu
def test_steps_wait_for_nothing_but_their_tokens(directory: Path) -> None:
    engine = build_engine(directory, look_ahead=True)
    expected = play(engine, "first")  # kernels are compiled, buffers taken
    try:
        torch.cuda.set_sync_debug_mode("error")
        found = play(engine, "second")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found == expected


@needs_gpu
def test_tokens_are_those_without_look_ahead(directory: Path) -> None:
    plain, ahead = (play(build_engine(directory, look_ahead=look_ahead), "r") for look_ahead in (False, True))
    assert ahead == plain
