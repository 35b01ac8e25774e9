"""Sleep and wake of a large model: its weights go to page-locked memory of the host, and come back in one go."""

from pathlib import Path
from time import perf_counter

from benchmarks.gpu_engines import Job, complete, make_engine
from benchmarks.gpu_rows import Figure, RowSpec, Unavailable
from benchmarks.gpu_setting import Setting
from runtime.llm.engine import LlmEngine


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    sleeper = Sleeper(setting, shape)
    return [RowSpec("sleep", sleeper.measure_sleep), RowSpec("wake", sleeper.measure_wake)]


class Sleeper:
    def __init__(self, setting: Setting, shape: str) -> None:
        self._setting = setting
        self._shape = shape
        self._engine: LlmEngine | None = None
        self._weight_bytes = 0

    def measure_sleep(self) -> Figure:
        setting = self._setting
        built = setting.shelf.get(self._shape, is_tiny=setting.is_tiny)
        self._weight_bytes = built.info.weight_bytes
        needed = round(self._weight_bytes * 1.3)
        if setting.is_cuda and needed > _available_bytes():
            raise Unavailable(f"needs {needed / 2**30:.0f} GiB of the host's memory")
        engine = make_engine(setting, built, Job(1, 16, 4))
        complete(engine, Job(1, 16, 2))
        began_at = perf_counter()
        engine.sleep()
        setting.synchronize()
        self._engine = engine
        return Figure(perf_counter() - began_at, "s", self._copy_s(), conditions=self._conditions())

    def measure_wake(self) -> Figure:
        if self._engine is None:
            raise Unavailable("it did not fall asleep, see there")
        began_at = perf_counter()
        self._engine.wake()
        self._setting.synchronize()
        duration_s = perf_counter() - began_at
        complete(self._engine, Job(1, 16, 2))
        return Figure(duration_s, "s", self._copy_s(), conditions=self._conditions())

    def _copy_s(self) -> float | None:
        limits = self._setting.limits
        return None if limits is None else self._weight_bytes / limits.host_bytes_per_s

    def _conditions(self) -> dict[str, object]:
        return {"weight_gb": round(self._weight_bytes / 1e9, 2)}


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise Unavailable("cannot tell how much memory the host has")
