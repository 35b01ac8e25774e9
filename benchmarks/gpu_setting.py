"""Where the GPU benchmark measures, and how long things take there.

On CUDA a duration is the device's own, between two events around work that was queued in one go: calls are captured
into a graph, so that the host's time to launch them is not in it. Medians of rounds, after warm-up; a working set that
would stay in the device's cache is for the caller to avoid. On a CPU it is the clock's.
"""

import gc
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

from benchmarks.gpu_models import Shelf
from benchmarks.gpu_options import Options
from benchmarks.gpu_rooflines import Limits
from runtime.llm.kernel_choice import Kernels, choose_kernels
from runtime.settings import Dtype

CACHE_BYTES = 512 * 2**20
"""More than any device keeps."""


class Timing(NamedTuple):
    seconds: float
    """Of one call."""
    is_captured: bool
    """Else the host's launches are in it, where they are slower than the device."""


class Setting:
    """What all parts of one process share."""

    def __init__(self, device: torch.device, *, is_tiny: bool) -> None:
        self.device = device
        self.is_tiny = is_tiny
        self.dtype_name: Dtype = "bfloat16"
        self.dtype: torch.dtype = getattr(torch, self.dtype_name)
        self.rounds = 2 if is_tiny else 7
        self.limits: Limits | None = None
        """None until they are measured, and where they cannot be."""
        self.shelf = Shelf(device, self.dtype)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def kernels(self) -> Kernels:
        return choose_kernels(self.device, self.dtype, are_enabled=True)

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def tidy(self) -> None:
        """Give back what nobody holds any more."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()

    def free_bytes(self) -> int:
        """Of the device."""
        if not self.is_cuda:
            return 4 * 2**30
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self.device)[0])

    def forget_peak(self) -> None:
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> dict[str, object]:
        """Most that torch held of the device since `forget_peak`, where it is known."""
        return {"peak_gib": round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2)} if self.is_cuda else {}

    def device_time(self, calls: list[Callable[[], object]], *, rounds: int | None = None) -> Timing:
        """Of one call, on average over all of `calls`, which are made one after the other."""
        rounds = rounds or self.rounds
        with torch.inference_mode():
            for call in calls[:2]:
                call()
            self.synchronize()
            if not self.is_cuda:
                return Timing(median(_clocked(calls) for _ in range(rounds)) / len(calls), False)
            graph = _captured(calls)
            replay = graph.replay if graph is not None else lambda: _call_all(calls)
            replay()
            events = [_between_events(replay) for _ in range(rounds)]
            torch.cuda.synchronize(self.device)
            durations = [began.elapsed_time(ended) / 1000 for began, ended in events]
        return Timing(median(durations) / len(calls), graph is not None)

    def wall_time(self, call: Callable[[], object], *, rounds: int | None = None, num_warm: int = 1) -> float:
        """Seconds until the device has done what one call asked of it, the host's part included."""
        for _ in range(num_warm):
            call()
        durations = []
        for _ in range(rounds or self.rounds):
            self.synchronize()
            began_at = perf_counter()
            call()
            self.synchronize()
            durations.append(perf_counter() - began_at)
        return median(durations)


def make_setting(options: Options) -> Setting:
    """Raises RuntimeError where the device is not there."""
    device = torch.device(options.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device: is this torch built for CUDA, and is there a driver?")
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    torch.manual_seed(0)
    setting = Setting(device, is_tiny=options.is_tiny)
    if setting.is_cuda:
        from benchmarks.gpu_limits import measure_limits

        try:
            setting.limits = measure_limits(setting)
        except RuntimeError as error:  # rows are measured all the same; those of the limits say what is wrong
            print(f"no rooflines: {error}")
    return setting


def _captured(calls: list[Callable[[], object]]) -> torch.cuda.CUDAGraph | None:
    """None where one of the calls cannot be captured, such as one that copies from the host."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _call_all(calls)  # kernels are chosen, workspaces there
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            _call_all(calls)
    except RuntimeError as error:
        torch.cuda.synchronize()
        print(f"not captured: {error}")
        return None
    return graph


def _between_events(run: Callable[[], object]) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    began.record()
    run()
    ended.record()
    return began, ended


def _clocked(calls: list[Callable[[], object]]) -> float:
    began_at = perf_counter()
    _call_all(calls)
    return perf_counter() - began_at


def _call_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()
