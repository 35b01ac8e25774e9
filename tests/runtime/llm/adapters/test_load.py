"""An engine that was loaded with places for adapters, driven as a worker drives it but in one thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.addons import inspect_addon
from models.llm_folder import inspect_llm
from models.sizing import adapters_bytes
from runtime.engine import LoadedEngine, LoadRefused, RequestRefused
from runtime.llm.adapters.load import support_adapters
from runtime.llm.adapters.stacked_adaptation import StackedAdaptation
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.load import load_llm
from runtime.llm.request import Adapter
from runtime.message import FailureCode
from runtime.protocol import Delta, Load, LoadAdapter, Submit
from runtime.settings import LlmSettings
from runtime.submission import SamplingParams, TokenPrompt
from tests.fakes.lora_stacks import PlainKernels
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import build_tiny_model

MIB = 1024 * 1024
TIMEOUT_S = 60
PROMPT = list(range(3, 3 + 40))
NUM_CACHED = 32
"""Of the prompt: one block."""


def load_base(directory: Path, max_num_adapters: int, memory_budget_bytes: int = 600 * MIB) -> LoadedEngine:
    settings = LlmSettings(
        device="cpu",
        dtype="float32",
        memory_budget_bytes=memory_budget_bytes,
        max_context_length=256,
        max_num_requests=8,
        max_batch_tokens=64,
        max_num_adapters=max_num_adapters,
        max_adapter_rank=8,
    )
    sha256 = inspect_llm(directory).file_sha256
    load = Load(model_dir=str(directory), file_sha256=sha256, settings=settings)
    return load_llm(load, lambda stage, done: None)


class World:
    def __init__(self, folder: Path) -> None:
        self.base = build_tiny_model(folder / "base", "llama")
        self.engine, self.frontend, self.loaded = load_base(self.base, 2)
        self._folder = folder

    def message(self, name: str, *, seed: int = 1, rank: int = 4) -> LoadAdapter:
        directory = build_tiny_addon(self._folder / f"{seed}-{rank}", self.base, seed=seed, rank=rank)
        info = inspect_addon(directory, self.base, inspect_llm(self.base))
        return LoadAdapter(adapter=name, directory=str(directory), file_sha256=info.file_sha256)

    def load(self, name: str, *, seed: int = 1, rank: int = 4) -> None:
        self.frontend.load_adapter(self.message(name, seed=seed, rank=rank)).result(TIMEOUT_S)

    def submit(self, adapter: str, request_id: str = "r", max_tokens: int = 8) -> None:
        self.engine.add(
            self.frontend.prepare(
                Submit(
                    request_id=request_id,
                    prompt=TokenPrompt(token_ids=PROMPT),
                    adapter=adapter,
                    max_tokens=max_tokens,
                    ignore_eos=True,
                    sampling=SamplingParams(temperature=0),
                )
            )
        )

    def finish(self) -> dict[str, Delta]:
        """Every request's last delta, with all its tokens."""
        token_ids: dict[str, list[int]] = {}
        last: dict[str, Delta] = {}
        while self.engine.has_work():
            for delta in self.frontend.render(self.engine.step()).deltas:
                token_ids.setdefault(delta.request_id, []).extend(delta.token_ids)
                last[delta.request_id] = delta
        for request_id, delta in last.items():
            delta.token_ids[:] = token_ids[request_id]
        return last

    def ask(self, adapter: str) -> tuple[list[int], int]:
        """Tokens, and how many of the prompt were in the cache."""
        self.submit(adapter)
        answer = self.finish()["r"]
        assert answer.usage is not None
        return answer.token_ids, answer.usage.num_cached_tokens

    def close(self) -> None:
        self.frontend.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_the_same_text_with_another_adapter_shares_no_block(world: World) -> None:
    world.load("a")
    world.load("b", seed=2)
    answers = {name: world.ask(name) for name in ("", "a", "b")}
    assert [num_cached for _, num_cached in answers.values()] == [0, 0, 0]
    assert len({str(token_ids) for token_ids, _ in answers.values()}) == 3
    assert {name: world.ask(name) for name in answers} == {
        name: (token_ids, NUM_CACHED) for name, (token_ids, _) in answers.items()
    }


def test_an_adapter_that_is_replaced_under_its_name_begins_with_an_empty_cache(world: World) -> None:
    world.load("a")
    first, _ = world.ask("a")
    world.load("a", seed=2)
    second, num_cached = world.ask("a")
    assert num_cached == 0
    assert first != second
    world.frontend.unload_adapter("a")
    world.load("a", seed=1)
    assert world.ask("a") == (first, NUM_CACHED), "equal files, whatever happened between"


def test_one_that_is_not_loaded_is_not_found(world: World) -> None:
    with pytest.raises(RequestRefused) as refused:
        world.submit("a")
    assert (refused.value.code, refused.value.param) == (FailureCode.NOT_FOUND, "model")


def test_what_runs_when_it_is_unloaded_finishes(world: World) -> None:
    world.load("a")
    expected, _ = world.ask("a")
    world.submit("a")
    (first,) = world.frontend.render(world.engine.step()).deltas
    world.frontend.unload_adapter("a")
    world.load("b", seed=2)
    with pytest.raises(LoadRefused, match="requests still use"):
        world.load("c", seed=3)
    with pytest.raises(RequestRefused):
        world.submit("a", "later")
    assert [*first.token_ids, *world.finish()["r"].token_ids] == expected
    world.load("c", seed=3)


def test_adapters_outlive_sleep(world: World) -> None:
    world.load("a")
    expected, _ = world.ask("a")
    world.engine.sleep()
    world.engine.wake()
    assert world.ask("a") == (expected, 0)


def test_a_rank_beyond_the_setting_is_refused(world: World) -> None:
    with pytest.raises(LoadRefused, match="up to 8"):
        world.load("a", rank=9)


def test_their_memory_is_set_aside_from_the_beginning(world: World, tmp_path: Path) -> None:
    info = inspect_llm(world.base)
    num_bytes = adapters_bytes(info, "float32", 200, 8, 64)
    budget = num_bytes + 520 * MIB
    _, frontend, without = load_base(world.base, 0, budget)
    frontend.close()
    _, frontend, with_adapters = load_base(world.base, 200, budget - num_bytes // 2)
    frontend.close()
    assert with_adapters.num_blocks < without.num_blocks
    assert with_adapters.footprint_bytes > num_bytes
    with pytest.raises(LoadRefused, match="not one block"):
        load_base(world.base, 200, num_bytes)


class Slotted:
    """Support for adapters in slots, over a model that is there already."""

    def __init__(self, folder: Path, *, num_slots: int = 2) -> None:
        self._folder = folder
        self.base = build_tiny_model(folder / "base", "llama")
        self.tiny = TinyModel(self.base)
        settings = LlmSettings(
            device="cpu",
            dtype="float32",
            memory_budget_bytes=600 * MIB,
            max_context_length=256,
            max_batch_tokens=64,
            max_num_adapters=num_slots,
            max_adapter_rank=8,
        )
        self.planned = adapters_bytes(self.tiny.info, "float32", num_slots, 8, 64)
        self.kernels = PlainKernels()
        self.support = support_adapters(self.tiny.model, self.base, self.tiny.info, settings, self.kernels)

    def load(self, name: str, seed: int) -> None:
        directory = build_tiny_addon(self._folder / str(seed), self.base, seed=seed)
        known = inspect_addon(directory, self.base, self.tiny.info).file_sha256
        load = LoadAdapter(adapter=name, directory=str(directory), file_sha256=known)
        self.support.shelf.load(load).result(TIMEOUT_S)

    def logits(self, adapter: Adapter | None, *, is_slotted: bool = True) -> torch.Tensor:
        adaptation = self.support.adaptation if is_slotted else self.tiny.adaptation
        forward = Forward(self.tiny.model, self.tiny.attention(), adaptation=adaptation)
        return forward.compute([TokenRow(PROMPT, 0, list(range(1, 8)), adapter=adapter)]).logits([len(PROMPT) - 1])

    def expected(self, seed: int) -> torch.Tensor:
        return self.logits(self.tiny.adapter(self._folder / str(seed)), is_slotted=False)


def test_with_kernels_adapters_come_and_go_in_slots(tmp_path: Path) -> None:
    slotted = Slotted(tmp_path)
    shelf = slotted.support.shelf
    slotted.load("kept", 1)
    for seed in (2, 3, 4, 2):
        slotted.load("a", seed)
        assert torch.allclose(slotted.logits(shelf.find("a")), slotted.expected(seed), atol=1e-4)
        assert torch.allclose(slotted.logits(shelf.find("kept")), slotted.expected(1), atol=1e-4)
        with pytest.raises(LoadRefused, match="room for no more"):
            slotted.load("b", 5)
        shelf.unload("a")
    shelf.close()


def test_with_kernels_all_layers_were_launched_once_and_their_memory_is_in_what_was_planned(tmp_path: Path) -> None:
    slotted = Slotted(tmp_path)
    assert slotted.kernels.num_launches == 2 * 4, "products of two fused layers"
    assert isinstance(slotted.support.adaptation, StackedAdaptation)
    assert 0 < slotted.support.num_bytes == slotted.planned - slotted.support.adaptation.size_bytes
    slotted.support.shelf.close()
