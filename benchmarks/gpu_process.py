"""One process of the GPU benchmark: measures the rows that are left, and tells the one that started it of each.

It owns the device while it lives. An error that leaves the device unusable ends it, and so does a row that hangs: a
watchdog that needs no cooperation of Python prints where it hung. Everything but messages goes to stderr.
"""

import faulthandler
import importlib
import importlib.metadata
import os
import platform
import sys
import time
import traceback
from typing import BinaryIO

import msgspec
import torch

from benchmarks.gpu_options import Options
from benchmarks.gpu_rows import (
    NEEDS_CUDA,
    Begun,
    Figure,
    Machine,
    Message,
    Row,
    RowBegun,
    RowSpec,
    Unavailable,
    measured,
)
from benchmarks.gpu_setting import Setting, make_setting

GRACE_S = 15.0
"""Beyond a part's budget for the row that was begun in time; then the watchdog comes."""
BROKEN_DEVICE_STATUS = 3
OUR_PACKAGES = {"benchmarks", "models", "runtime", "tests"}

MODULES = {
    "limits": "benchmarks.gpu_limits",
    "checks": "benchmarks.gpu_checks",
    "products": "benchmarks.gpu_products",
    "attention": "benchmarks.gpu_attention",
    "sampling": "benchmarks.gpu_sampling",
    "grammar": "benchmarks.gpu_grammar",
    "steps": "benchmarks.gpu_steps",
    "load": "benchmarks.gpu_load",
    "adapters": "benchmarks.gpu_adapters",
    "wake": "benchmarks.gpu_wake",
    "peer": "benchmarks.gpu_peer",
}
"""By what a part's name begins with; the rest of it names a shape. Each has `rows(setting, shape name)`."""


class Teller:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def tell(self, message: Message) -> None:
        self._stream.write(msgspec.json.encode(message) + b"\n")
        self._stream.flush()


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=Options)
    teller = Teller(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print
    began_at = time.time()
    setting = make_setting(options)
    teller.tell(Machine(conditions=_conditions(options)))
    for index, part in enumerate(options.parts):
        budget_s = options.budgets_s[part] - (options.used_s if index == 0 else 0.0)
        if index == 0:
            budget_s += time.time() - began_at  # starting is nobody's fault
        _run_part(part, budget_s, setting, options, teller)
        setting.tidy()
    teller.tell(Machine(conditions=_conditions(options)))
    # Threads of others, such as of transformers' batching, must not keep a finished process.
    sys.stderr.flush()
    os._exit(0)


def specs_of(part: str, setting: Setting) -> list[RowSpec]:
    kind, _, shape = part.partition("-")
    specs: list[RowSpec] = importlib.import_module(MODULES[kind]).rows(setting, shape)
    return specs


def _run_part(part: str, budget_s: float, setting: Setting, options: Options, teller: Teller) -> None:
    deadline = min(time.time() + budget_s, options.ends_at)
    try:
        specs = specs_of(part, setting)
    except Exception as error:
        teller.tell(Begun(part=part, rows=[]))
        teller.tell(Row(part=part, name="setup", status="failed", reason=_brief(error)))
        return
    teller.tell(Begun(part=part, rows=[spec.name for spec in specs]))
    faulthandler.dump_traceback_later(max(1.0, deadline - time.time()) + GRACE_S, exit=True)
    try:
        while specs:
            spec = specs.pop(0)  # what a part holds goes with the last row that needs it
            if f"{part}/{spec.name}" not in options.done:
                teller.tell(RowBegun(name=spec.name))
                teller.tell(_measure(part, spec, setting, deadline, teller))
    finally:
        faulthandler.cancel_dump_traceback_later()


def _measure(part: str, spec: RowSpec, setting: Setting, deadline: float, teller: Teller) -> Row:
    if spec.needs_cuda and setting.device.type != "cuda":
        return Row(part=part, name=spec.name, status="unavailable", reason=NEEDS_CUDA)
    if time.time() >= deadline:
        return Row(part=part, name=spec.name, status="skipped", reason="the time was used up")
    try:
        setting.forget_peak()
        figure: Figure = spec.measure()
        setting.synchronize()
        return measured(part, spec.name, figure._replace(conditions={**figure.conditions, **setting.peak()}))
    except Unavailable as reason:
        return Row(part=part, name=spec.name, status="unavailable", reason=str(reason))
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] not in OUR_PACKAGES:
            return Row(part=part, name=spec.name, status="unavailable", reason=f"needs {error.name}")
        traceback.print_exc()
        row = Row(part=part, name=spec.name, status="failed", reason=_brief(error))
        if _is_broken(setting):
            teller.tell(row)
            os._exit(BROKEN_DEVICE_STATUS)
        traceback.clear_frames(error.__traceback__)  # they hold tensors
    setting.tidy()
    return row


def _is_broken(setting: Setting) -> bool:
    """After an illegal access every call fails, for as long as the process lives."""
    if setting.device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(setting.device)
        torch.zeros(1, device=setting.device).add_(1).item()
    except Exception:
        return True
    return False


def _brief(error: BaseException) -> str:
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    return lines[0][:300]


def _conditions(options: Options) -> dict[str, object]:
    device = torch.device(options.device)
    conditions: dict[str, object] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": _version("transformers"),
        "triton": _version("triton"),
        "cpus": os.cpu_count(),
    }
    if device.type == "cuda":
        conditions |= {
            "cuda": torch.version.cuda,
            "capability": "{}.{}".format(*torch.cuda.get_device_capability(device)),
            "memory_gib": round(torch.cuda.get_device_properties(device).total_memory / 2**30),
        }
    return conditions | ({"is_tiny": True} if options.is_tiny else {})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    main()
