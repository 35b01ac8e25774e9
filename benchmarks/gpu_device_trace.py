"""What the device did while something ran, from torch's profiler: how long it was busy, idle, and with how much."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile


class Trace(NamedTuple):
    busy_s: float
    idle_s: float
    """Between the first that it did and the last."""
    num_kernels: int
    """Copies among them."""


def trace(run: Callable[[], object]) -> Trace:
    """Raises RuntimeError where the profiler sees nothing of the device, as in containers that forbid it."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type == torch._C._autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
        and event.time_range.end > event.time_range.start
    ]
    if not spans:
        raise RuntimeError("the profiler saw nothing of the device: may this process use CUPTI?")
    busy_us, idle_us = busy_and_idle(spans)
    return Trace(busy_us / 1e6, idle_us / 1e6, len(spans))


def busy_and_idle(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Of spans of time that may overlap: what they cover together, and the gaps between them."""
    busy = idle = 0.0
    latest: float | None = None
    for began, ended in sorted(spans):
        if latest is None:
            latest = began
        idle += max(0.0, began - latest)
        busy += max(0.0, ended - max(began, latest))
        latest = max(latest, ended)
    return busy, idle
