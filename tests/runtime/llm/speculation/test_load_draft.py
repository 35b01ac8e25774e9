from pathlib import Path
from typing import Any

import pytest

from models.llm_folder import inspect_llm
from models.sizing import replica_bytes
from runtime.engine import LoadedEngine, LoadRefused
from runtime.llm.load import load_llm
from runtime.llm.speculation.load_draft import check_fit
from runtime.protocol import Delta, Load, Submit
from runtime.settings import DraftModel, LlmSettings, Speculation
from runtime.submission import SamplingParams, TokenPrompt
from tests.fakes.tiny_llm import build_tiny_model

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "memory_budget_bytes": 2**30,
    "max_context_length": 128,
    "max_num_requests": 4,
    "block_size": 16,
    "num_threads": 1,
}


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A target, and draft models for it by what is the matter with them."""
    root = tmp_path_factory.mktemp("models")
    built = {
        "target": build_tiny_model(root / "target", "llama"),
        "fits": build_tiny_model(root / "fits", "qwen2", num_hidden_layers=1),
        "short": build_tiny_model(root / "short", "llama", max_position_embeddings=64),
        "stranger": build_tiny_model(root / "stranger", "llama"),
    }
    tokenizer = built["stranger"] / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("<|turn|>", "<|other|>"))
    return built


def load(directories: dict[str, Path], draft: str | None, **changes: Any) -> LoadedEngine:
    draft_model = None
    if draft is not None:
        draft_model = DraftModel(
            model_dir=str(directories[draft]), file_sha256=inspect_llm(directories[draft]).file_sha256
        )
    target = directories["target"]
    settings = LlmSettings(**SETTINGS | changes, speculation=Speculation(num_draft_tokens=3, draft_model=draft_model))
    file_sha256 = inspect_llm(target).file_sha256
    return load_llm(
        Load(model_dir=str(target), file_sha256=file_sha256, settings=settings),
        lambda stage, fraction: None,
    )


def generate(loaded: LoadedEngine) -> Delta:
    """One greedy answer, its deltas in one."""
    engine, frontend = loaded.engine, loaded.frontend
    submit = Submit(
        request_id="r",
        prompt=TokenPrompt(token_ids=list(range(3, 20))),
        sampling=SamplingParams(temperature=0),
        max_tokens=20,
        ignore_eos=True,
    )
    engine.add(frontend.prepare(submit))
    deltas: list[Delta] = []
    while engine.has_work():
        deltas += frontend.render(engine.step()).deltas
    frontend.close()
    tokens = [token_id for delta in deltas for token_id in delta.token_ids]
    return Delta(request_id="r", token_ids=tokens, performance=deltas[-1].performance)


def test_a_model_with_a_draft_model_answers_as_without(directories: dict[str, Path]) -> None:
    alone, drafted = generate(load(directories, None)), generate(load(directories, "fits"))
    assert drafted.token_ids == alone.token_ids
    assert alone.performance is not None
    assert alone.performance.num_drafted_tokens == 0
    assert drafted.performance is not None
    assert drafted.performance.num_drafted_tokens > 0


def test_both_models_share_the_budget_block_by_block(directories: dict[str, Path]) -> None:
    target, draft = inspect_llm(directories["target"]), inspect_llm(directories["fits"])
    plan = {name: SETTINGS[name] for name in ("max_context_length", "max_num_requests")}
    budget = replica_bytes(target, "float32", **plan, concurrency=1, max_batch_tokens=64, is_cuda=False, draft=draft)
    tight = {"memory_budget_bytes": budget, "max_batch_tokens": 64}
    alone, both = load(directories, None, **tight), load(directories, "fits", **tight)
    one_request = SETTINGS["max_context_length"] // SETTINGS["block_size"]
    assert alone.loaded.num_blocks > both.loaded.num_blocks > one_request
    for loaded in (alone, both):
        loaded.frontend.close()


@pytest.mark.parametrize(("draft", "reason"), [("stranger", "another vocabulary"), ("short", "ends at 64 tokens")])
def test_a_draft_model_that_does_not_fit_is_refused(directories: dict[str, Path], draft: str, reason: str) -> None:
    with pytest.raises(LoadRefused, match=reason):
        load(directories, draft)
    info = inspect_llm(directories[draft])
    if draft == "short":
        check_fit(directories["target"], directories[draft], info, max_context_length=64)


def test_a_draft_model_that_was_changed_since_its_import_is_refused(directories: dict[str, Path]) -> None:
    fits = directories["fits"]
    wrong = DraftModel(model_dir=str(fits), file_sha256={**inspect_llm(fits).file_sha256, "config.json": "0" * 64})
    settings = LlmSettings(**SETTINGS, speculation=Speculation(draft_model=wrong))
    target = directories["target"]
    message = Load(model_dir=str(target), file_sha256=inspect_llm(target).file_sha256, settings=settings)
    with pytest.raises(LoadRefused, match=r"config\.json"):
        load_llm(message, lambda stage, fraction: None)
