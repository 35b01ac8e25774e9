import shutil
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from models.llm_folder import inspect_llm
from runtime.embedding.load import load_embedding
from runtime.engine import LoadRefused
from tests.fakes.embedding_engine import MIB, DrivenEngine, embedding_load
from tests.fakes.tiny_embedder import CONTEXT_LENGTH, SENTENCES, build_tiny_embedder


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_embedder(tmp_path_factory.mktemp("bert"), "bert")


def test_a_loaded_engine_says_what_it_holds_and_how_long_its_stages_took(directory: Path) -> None:
    progress: list[tuple[str, float]] = []
    _, frontend, loaded = load_embedding(
        embedding_load(directory), lambda stage, fraction: progress.append((stage, fraction))
    )
    frontend.close()
    assert loaded.max_context_length == CONTEXT_LENGTH
    assert loaded.footprint_bytes > 100 * MIB
    assert set(loaded.load_ms) == {"inspection", "architecture", "weights", "warm-up", "tokenizer"}
    fractions = [fraction for _, fraction in progress]
    assert fractions == sorted(fractions)


def test_what_cannot_be_served_is_refused_with_the_reason(directory: Path) -> None:
    with pytest.raises(LoadRefused, match="do not hold the model"):
        load_embedding(embedding_load(directory, memory_budget_bytes=MIB), _ignore)
    with pytest.raises(LoadRefused, match=f"context ends at {CONTEXT_LENGTH}"):
        load_embedding(embedding_load(directory, max_context_length=1000), _ignore)
    with pytest.raises(LoadRefused, match="float16"):
        load_embedding(embedding_load(directory, dtype="float16"), _ignore)
    if not torch.cuda.is_available():
        with pytest.raises(LoadRefused, match="no CUDA device"):
            load_embedding(embedding_load(directory, device="cuda:0"), _ignore)


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "tokenizer.json"])
def test_files_that_changed_since_their_import_are_refused(directory: Path, tmp_path: Path, name: str) -> None:
    changed = Path(shutil.copytree(directory, tmp_path / "changed"))
    load = embedding_load(changed)
    with open(changed / name, "a") as file:
        file.write("\n")
    with pytest.raises(LoadRefused, match=f"not what was imported: {name}"):
        load_embedding(load, _ignore)


def test_a_language_models_folder_is_served_too_where_the_deployment_says_so(tmp_path: Path) -> None:
    directory = build_tiny_embedder(tmp_path, "qwen3_reranker")
    load = replace(embedding_load(directory), file_sha256=inspect_llm(directory).file_sha256)
    _, frontend, _ = load_embedding(load, _ignore)
    frontend.close()


def test_it_sleeps_and_wakes_and_answers_as_before(directory: Path) -> None:
    engine = DrivenEngine(directory)
    before = engine.embed([*SENTENCES])
    assert engine.engine.sleep() > 0
    assert engine.engine.wake()
    assert engine.embed([*SENTENCES]) == pytest.approx(before, abs=1e-6)
    engine.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_vectors_on_a_gpu_equal_those_of_the_cpu(tmp_path: Path) -> None:
    for embedder in ("bert", "mpnet", "modernbert", "embeddinggemma", "qwen3_embedding"):
        directory = build_tiny_embedder(tmp_path / embedder, embedder)
        engines = [
            DrivenEngine(directory, device=device, memory_budget_bytes=8192 * MIB) for device in ("cpu", "cuda:0")
        ]
        cpu, gpu = (engine.embed([*SENTENCES]) for engine in engines)
        assert gpu == pytest.approx(cpu, abs=1e-4)
        engines[1].engine.sleep()
        engines[1].engine.wake()
        assert engines[1].embed([*SENTENCES]) == pytest.approx(gpu, abs=1e-6)
        for engine in engines:
            engine.close()


def _ignore(stage: str, fraction: float) -> None:
    pass
