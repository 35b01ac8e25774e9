"""The device's own limits, which rooflines are made of: how fast it reads, copies and multiplies, and how fast the
host's memory comes to it."""

from collections.abc import Callable

import torch

from benchmarks.gpu_rooflines import Limits
from benchmarks.gpu_rows import Figure, RowSpec
from benchmarks.gpu_setting import Setting

_BYTES_MAX = 2 * 2**30
_WIDTH = 8192
_CALLS = 4


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    def row(name: str, measure: Callable[[Setting], float], unit: str, scale: float) -> RowSpec:
        return RowSpec(name, lambda: Figure(measure(setting) / scale, unit), needs_cuda=True)

    return [
        row("read_bandwidth", read_bandwidth, "GB/s", 1e9),
        row("copy_bandwidth", copy_bandwidth, "GB/s", 1e9),
        row("matmul", matmul_flops, "TFLOP/s", 1e12),
        row("host_to_device_bandwidth", host_bandwidth, "GB/s", 1e9),
        row("launch", launch_s, "us", 1e-6),
    ]


def measure_limits(setting: Setting) -> Limits:
    return Limits(
        bytes_per_s=max(read_bandwidth(setting), copy_bandwidth(setting)),
        flops=matmul_flops(setting),
        host_bytes_per_s=host_bandwidth(setting),
    )


def read_bandwidth(setting: Setting) -> float:
    """Bytes per second of a sum."""
    source = torch.zeros(_num_bytes(setting) // 4, dtype=torch.float32, device=setting.device)
    return source.nbytes / setting.device_time([source.sum] * _CALLS).seconds


def copy_bandwidth(setting: Setting) -> float:
    """Bytes per second that are read or written."""
    source = torch.zeros(_num_bytes(setting), dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / setting.device_time([lambda: target.copy_(source)] * _CALLS).seconds


def matmul_flops(setting: Setting) -> float:
    left, right = torch.randn(2, _WIDTH, _WIDTH, device=setting.device, dtype=setting.dtype)
    output = torch.empty_like(left)
    return 2 * _WIDTH**3 / setting.device_time([lambda: torch.matmul(left, right, out=output)] * _CALLS).seconds


def host_bandwidth(setting: Setting) -> float:
    source = torch.zeros(_num_bytes(setting) // 4, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device=setting.device)
    return source.nbytes / setting.wall_time(lambda: target.copy_(source, non_blocking=True))


def launch_s(setting: Setting) -> float:
    """Of one small operation of torch, as the host sees it: what a step without graphs pays for each."""
    one = torch.zeros(1, device=setting.device)
    num_calls = 1000

    def launch() -> None:
        for _ in range(num_calls):
            one.add_(1)

    return setting.wall_time(launch) / num_calls


def _num_bytes(setting: Setting) -> int:
    """Of one tensor: far more than a cache, far less than the memory."""
    return min(_BYTES_MAX, setting.free_bytes() // 8) // 4096 * 4096
