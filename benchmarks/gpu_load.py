"""A load from files in the page cache as a worker does it, by phases; then its sleep and its wake.

The process, its imports and its CUDA context are there already, as in a spare worker.
"""

import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.gpu_checkpoint import write_checkpoint
from benchmarks.gpu_engines import Job, complete
from benchmarks.gpu_models import config_of
from benchmarks.gpu_rows import Figure, RowSpec, Unavailable
from benchmarks.gpu_setting import Setting
from runtime.engine import LoadedEngine
from runtime.llm.engine import LlmEngine
from runtime.protocol import Load
from runtime.settings import LlmSettings

CONTEXT = 1024


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    loading = Loading(setting, shape)
    of_an_arena = ["weights/read", "weights/copy", "weights/convert"] if setting.is_cuda else []
    stages = ["inspection", "architecture", "weights", *of_an_arena, "kv-cache", "warm-up", "tokenizer"]
    return [
        RowSpec("load", loading.measure_load),
        *(RowSpec(f"load.{stage}", partial(loading.stage, stage)) for stage in stages),
        RowSpec("first_token", loading.measure_first_token),
        RowSpec("sleep", loading.measure_sleep),
        RowSpec("wake", loading.measure_wake),
        RowSpec("first_token_after_wake", loading.measure_first_token),
    ]


class Loading:
    """One engine from its load on."""

    def __init__(self, setting: Setting, shape: str) -> None:
        self._setting = setting
        self._shape = shape
        self._loaded: LoadedEngine | None = None
        self._weight_bytes = 0

    def measure_load(self) -> Figure:
        """All of it, and its peak on the device."""
        from models.llm_folder import inspect_llm
        from runtime.llm.load import load_llm

        setting = self._setting
        setting.shelf.clear()
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            write_checkpoint(directory, config_of(self._shape, is_tiny=setting.is_tiny), setting.device)
            setting.tidy()
            info = inspect_llm(directory)
            self._weight_bytes = info.weight_bytes
            load = Load(model_dir=name, file_sha256=info.file_sha256, settings=self._settings(info.weight_bytes))
            before = 0
            if setting.is_cuda:
                torch.cuda.reset_peak_memory_stats(setting.device)
                before = torch.cuda.memory_allocated(setting.device)
            began_at = perf_counter()
            self._loaded = load_llm(load, lambda stage, fraction: None)
            setting.synchronize()
            duration_s = perf_counter() - began_at
        conditions: dict[str, object] = {"weight_gb": round(self._weight_bytes / 1e9, 2)}
        if setting.is_cuda:
            peak = torch.cuda.max_memory_allocated(setting.device) - before
            kv_bytes = self._engine.loaded.kv_bytes
            conditions["peak_over_weights"] = round((peak - kv_bytes) / self._weight_bytes, 2)
        return Figure(duration_s, "s", self._copy_s(), conditions=conditions)

    def stage(self, stage: str) -> Figure:
        load_ms = self._engine.loaded.load_ms
        best_s = self._copy_s()
        return Figure(load_ms[stage], "ms", best_s * 1000 if best_s is not None and stage == "weights" else None)

    def measure_first_token(self) -> Figure:
        engine = self._engine.engine
        assert isinstance(engine, LlmEngine)
        return Figure(complete(engine, Job(1, 16, 1)) * 1000, "ms")

    def measure_sleep(self) -> Figure:
        began_at = perf_counter()
        held = self._engine.engine.sleep()
        return Figure(perf_counter() - began_at, "s", self._copy_s(), conditions={"host_gb": round(held / 1e9, 2)})

    def measure_wake(self) -> Figure:
        began_at = perf_counter()
        stages = self._engine.engine.wake()
        self._setting.synchronize()
        conditions = {f"{stage}_ms": round(duration_ms, 1) for stage, duration_ms in stages.items()}
        return Figure(perf_counter() - began_at, "s", self._copy_s(), conditions=conditions)

    @property
    def _engine(self) -> LoadedEngine:
        if self._loaded is None:
            raise Unavailable("the load failed, see its row")
        return self._loaded

    def _copy_s(self) -> float | None:
        """Of the weights, from the host's memory to the device or back."""
        limits = self._setting.limits
        return None if limits is None else self._weight_bytes / limits.host_bytes_per_s

    def _settings(self, weight_bytes: int) -> LlmSettings:
        return LlmSettings(
            device=str(self._setting.device),
            dtype=self._setting.dtype_name,
            memory_budget_bytes=weight_bytes + 8 * 2**30,
            max_context_length=64 if self._setting.is_tiny else CONTEXT,
            max_num_requests=8,
        )
