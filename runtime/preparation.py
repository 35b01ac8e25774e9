"""What every load of a language model needs, done ahead of any: a spare worker's work before it waits for Load.

Libraries are imported, the device's context is made and its mathematics started once. Never reads a model.
"""

import torch

from runtime.llm import load  # noqa: F401 - this is most of what is to be done
from runtime.llm.modeling import prepare_architectures
from runtime.memory import footprint_bytes


def prepare() -> int:
    """Returns what this process holds now, as in `Loaded`."""
    prepare_architectures()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _start_mathematics(device)
    return footprint_bytes(device, reserved_bytes=0)


def _start_mathematics(device: torch.device) -> None:
    """The first product of a process makes contexts and handles, starts threads and compiles kernels."""
    with torch.inference_mode():
        factor = torch.ones(64, 64, dtype=torch.bfloat16, device=device)
        torch.nn.functional.linear(factor, factor).sum().item()
