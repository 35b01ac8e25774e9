import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.llm_folder import inspect_llm
from models.sizing import BLOCK_SIZE_MAX, replica_bytes
from runtime.engine import LoadRefused
from runtime.llm.load import load_llm
from runtime.llm.request import TokenOutput
from runtime.protocol import Delta, Load, Submit
from runtime.settings import LlmSettings
from runtime.submission import SamplingParams, TextPrompt
from tests.fakes.tiny_fp8 import quantise_folder
from tests.fakes.tiny_llm import build_tiny_model

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


def _load(directory: Path, **settings: Any) -> Load:
    defaults: dict[str, Any] = {
        "device": "cpu",
        "dtype": "float32",
        "memory_budget_bytes": 600 * MIB,
        "max_context_length": 256,
        "max_num_requests": 8,
        "max_batch_tokens": 64,
    }
    return Load(
        model_dir=str(directory),
        file_sha256=inspect_llm(directory).file_sha256,
        settings=LlmSettings(**defaults | settings),
    )


def test_a_loaded_engine_answers_and_says_what_it_holds(directory: Path) -> None:
    progress: list[tuple[str, float]] = []
    engine, frontend, loaded = load_llm(_load(directory), lambda stage, done: progress.append((stage, done)))
    try:
        sampling = SamplingParams(temperature=0)
        submit = Submit(request_id="a", prompt=TextPrompt(text="the kettle sings"), max_tokens=5, sampling=sampling)
        engine.add(frontend.prepare(submit))
        deltas: list[Delta] = []
        while engine.has_work():
            outputs = engine.step()
            assert all(isinstance(output, TokenOutput) for output in outputs)
            deltas += frontend.render(outputs).deltas
        usage = deltas[-1].usage
        assert usage is not None
        assert 1 <= usage.num_completion_tokens <= 5
    finally:
        frontend.close()
    assert (loaded.block_size, loaded.max_context_length) == (32, 256)
    assert loaded.num_blocks == 8 * 256 // 32 + 1, "as many as all requests could fill, and the trash block"
    assert loaded.footprint_bytes > 100 * MIB
    assert list(loaded.load_ms) == [
        "device", "inspection", "architecture", "weights", "kv-cache", "warm-up", "tokenizer"
    ]  # fmt: skip
    fractions = [done for _, done in progress]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1


def test_a_small_budget_shortens_the_context_and_says_so(directory: Path) -> None:
    budget = replica_bytes(
        inspect_llm(directory),
        "float32",
        max_context_length=0,
        concurrency=1,
        max_batch_tokens=64,
        max_num_requests=8,
        is_cuda=False,
    )
    _, frontend, loaded = load_llm(_load(directory, memory_budget_bytes=budget, max_context_length=512), _ignore)
    frontend.close()
    assert loaded.num_blocks == BLOCK_SIZE_MAX // 32 + 1
    assert loaded.max_context_length == BLOCK_SIZE_MAX


def test_what_cannot_be_served_is_refused_with_the_reason(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadRefused, match="not one block"):
        load_llm(_load(directory, memory_budget_bytes=MIB), _ignore)
    with pytest.raises(LoadRefused, match="context ends at 512"):
        load_llm(_load(directory, max_context_length=1000), _ignore)
    with pytest.raises(LoadRefused, match="float16"):
        load_llm(_load(directory, dtype="float16"), _ignore)
    if not torch.cuda.is_available():
        with pytest.raises(LoadRefused, match="no CUDA device"):
            load_llm(_load(directory, device="cuda:0"), _ignore)


def test_8_bit_weights_are_converted_unless_the_device_was_said_to_multiply_them(
    directory: Path, tmp_path: Path
) -> None:
    quantised = quantise_folder(directory, tmp_path / "quantised", "row")
    _, frontend, _ = load_llm(_load(quantised), _ignore)
    frontend.close()
    with pytest.raises(LoadRefused, match="8-bit"):
        load_llm(_load(quantised, keeps_fp8=True), _ignore)
    _, frontend, _ = load_llm(_load(directory, keeps_fp8=True), _ignore)
    frontend.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this device may have them")
def test_a_kv_cache_of_8_bit_floats_is_refused_by_devices_without_them(directory: Path) -> None:
    with pytest.raises(LoadRefused, match=r"kv_cache_dtype fp8.* 8\.9"):
        load_llm(_load(directory, kv_cache_dtype="fp8"), _ignore)


def test_latents_are_kept_when_that_is_asked_for_and_no_addon_may_come(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "deepseek_v2")
    sizes = []
    for settings in ({}, {"keeps_latents": True}, {"keeps_latents": True, "max_num_adapters": 1}):
        _, frontend, loaded = load_llm(_load(directory, **settings), _ignore)
        frontend.close()
        sizes.append(loaded.kv_bytes)
    latent, expanded = 24 + 8, 4 * (24 + 12)
    assert sizes[0] == sizes[2] == sizes[1] * expanded // latent


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json"])
def test_files_that_changed_since_their_import_are_refused(directory: Path, tmp_path: Path, name: str) -> None:
    changed = Path(shutil.copytree(directory, tmp_path / "changed"))
    load = _load(changed)
    with open(changed / name, "a") as file:
        file.write("\n")
    with pytest.raises(LoadRefused, match=f"not what was imported: {re.escape(name)}"):
        load_llm(load, _ignore)
    (changed / "model.safetensors").write_bytes(b"")
    with pytest.raises(LoadRefused, match="empty"):
        load_llm(load, _ignore)


def test_layers_are_packed_in_pauses_and_tokens_stay_the_same(directory: Path) -> None:
    engine, frontend, _ = load_llm(_load(directory), _ignore)
    try:
        before = _answer(engine, frontend, "before")
        while engine.rest():
            pass
        assert not engine.rest()
        assert _answer(engine, frontend, "after") == before
    finally:
        frontend.close()


@pytest.mark.parametrize("look_ahead", [None, False, True])
def test_it_looks_ahead_when_it_is_told_to_and_on_cuda(directory: Path, look_ahead: bool | None) -> None:
    engine, frontend, _ = load_llm(_load(directory, look_ahead=look_ahead), _ignore)
    try:
        submit = Submit(request_id="a", prompt=TextPrompt(text="the kettle"), max_tokens=2)
        engine.add(frontend.prepare(submit))
        assert bool(engine.step()) == (look_ahead is not True), "outputs come with the step that follows"
    finally:
        frontend.close()


def _answer(engine: Any, frontend: Any, request_id: str) -> list[int]:
    sampling = SamplingParams(temperature=0)
    submit = Submit(request_id=request_id, prompt=TextPrompt(text="the kettle"), max_tokens=5, sampling=sampling)
    engine.add(frontend.prepare(submit))
    token_ids: list[int] = []
    while engine.has_work():
        token_ids += [token_id for delta in frontend.render(engine.step()).deltas for token_id in delta.token_ids]
    return token_ids


def _ignore(stage: str, done: float) -> None:
    pass
