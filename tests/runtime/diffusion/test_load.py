import json
from pathlib import Path

from runtime.diffusion.load import load_diffusion
from runtime.message import FailureCode
from tests.fakes.tiny_llm import build_tiny_model
from tests.runtime.diffusion.conftest import Studio, load_message, load_refusal_of


def test_a_load_tells_its_stages_and_what_it_holds(sdxl_dir: Path) -> None:
    told: list[tuple[str, float]] = []
    loaded = load_diffusion(load_message(sdxl_dir), lambda stage, fraction: told.append((stage, fraction)))
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["inspection", "weights", "warm-up"]
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert set(loaded.loaded.load_ms) == {"inspection", "weights", "warm-up"}
    assert loaded.loaded.footprint_bytes > 10**8
    loaded.frontend.close()


def test_a_budget_that_is_too_small_is_told_in_bytes(sdxl_dir: Path) -> None:
    refusal = load_refusal_of(load_message(sdxl_dir, memory_budget_bytes=10**6))
    assert refusal.code is FailureCode.OVERLOADED
    assert "1000000" in refusal.message


def test_float16_is_not_served_by_a_cpu(sdxl_dir: Path) -> None:
    assert "float16" in load_refusal_of(load_message(sdxl_dir, dtype="float16")).message


def test_bfloat16_draws(sdxl_dir: Path) -> None:
    studio = Studio(sdxl_dir, dtype="bfloat16")
    assert studio.draw()[0].std() > 20
    studio.frontend.close()


def test_a_file_that_was_changed_after_import_is_named(copy: Path) -> None:
    load = load_message(copy)
    config = json.loads((copy / "scheduler/scheduler_config.json").read_text())
    (copy / "scheduler/scheduler_config.json").write_text(json.dumps(config | {"beta_end": 0.02}))
    assert "scheduler/scheduler_config.json" in load_refusal_of(load).message


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    build_tiny_model(tmp_path, "llama")
    assert "model_index.json: is missing" in load_refusal_of(load_message(tmp_path)).message
