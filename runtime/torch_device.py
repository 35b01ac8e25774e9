"""The device that a torch engine computes on, as its settings name it."""

import torch

from runtime.engine import LoadRefused


def find_device(name: str, dtype: str) -> torch.device:
    """Raises LoadRefused where it is not there, or does not compute this type."""
    device = torch.device(name)
    if device.type == "cpu" and dtype == "float16":
        raise LoadRefused("CPUs do not compute float16 at a useful speed: serve as bfloat16 or float32")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LoadRefused(f"this worker sees no CUDA device, and was told to use {name}")
    return device


def open_device(device: torch.device) -> None:
    """Have the driver make this process's context, which takes it some tenths of a second, now."""
    if device.type != "cpu":
        torch.zeros(1, device=device).item()
