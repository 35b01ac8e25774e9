"""What the machine offers: Python and its packages, SQLite, devices and their driver, limits, shared memory.

Imports no library that it asks about: torch alone would take seconds. Changes nothing.
"""

import os
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path

from appliance.config import GIB, Config
from appliance.errors import HearthError
from appliance.operations.findings import Finding, ok, problem, warning
from appliance.orchestrator.gpus import CPU, Device, discover_inventory, driver_version
from appliance.store.library import has_wal_reset_bug, sqlite_version

PACKAGES = ("torch", "transformers", "safetensors", "tokenizers", "llguidance", "aiohttp", "msgspec")
OLDEST_PYTHON = (3, 11)
DRIVER_TIMEOUT_S = 15.0
CONTROL_DEVICE = Path("/dev/nvidiactl")
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_LEAST_BYTES = GIB
FILES_BESIDE_CONNECTIONS = 512
_LIMITS = {"memlock": "Max locked memory", "nofile": "Max open files"}


def check_machine(config: Config, daemon_pid: int | None) -> Iterator[Finding]:
    """`daemon_pid`: whose limits count; None: this process's, for want of a daemon."""
    yield check_python()
    yield check_packages()
    yield check_sqlite()
    devices, finding = find_devices(config)
    yield finding
    has_gpu = any(device.is_cuda for device in devices)
    yield check_torch_build(has_gpu)
    process = f"/proc/{daemon_pid or 'self'}/limits"
    yield check_open_files(Path(process), config.server.max_connections)
    yield check_locked_memory(Path(process), has_gpu)
    yield check_shared_memory(SHARED_MEMORY)


def check_python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        return problem("Python", version, "install Python 3.11 or newer and run scripts/install again")
    return ok("Python", f"{version} at {sys.executable}")


def check_packages() -> Finding:
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if not version]
    if missing:
        return problem("Packages", f"not installed: {', '.join(missing)}", "run scripts/install again")
    if _version("torchvision"):
        # It breaks the image processors of transformers where it does not fit torch to the letter.
        return problem("Packages", "torchvision is installed, which hearth does not use", "pip uninstall torchvision")
    return ok("Packages", ", ".join(f"{name} {version}" for name, version in found.items()))


def check_torch_build(has_gpu: bool) -> Finding:
    """By its version alone: builds without CUDA say so."""
    version = _version("torch")
    if has_gpu and version.endswith("+cpu"):
        return problem(
            "Torch", f"{version} cannot use the GPUs", "remove .venv and run scripts/install with the driver"
        )
    return ok("Torch", version or "not installed")


def check_sqlite() -> Finding:
    if has_wal_reset_bug():
        message = f"{sqlite_version()} has the WAL-reset bug, which the daemon avoids"
        return ok("SQLite", f"{message}: let no other program write to hearth.db while it runs")
    return ok("SQLite", sqlite_version())


def find_devices(config: Config) -> tuple[list[Device], Finding]:
    """A sick driver hangs for ever, and the doctor must not."""
    found: list[tuple[list[Device], Finding]] = []
    asking = threading.Thread(target=lambda: found.append(_ask_for_devices(config)), daemon=True)
    asking.start()
    asking.join(DRIVER_TIMEOUT_S)
    if found:
        return found[0]
    message = f"the NVIDIA driver has not answered for {DRIVER_TIMEOUT_S:g} s"
    return [], problem("Devices", message, "see dmesg for XID errors, restart the machine")


def check_open_files(limits: Path, max_connections: int) -> Finding:
    limit, needed = _limit(limits, "nofile"), max_connections + FILES_BESIDE_CONNECTIONS
    if limit is not None and limit < needed:
        message = f"at most {limit}, and {max_connections} connections are allowed"
        return warning("Open files", message, f"raise the limit to {needed}: LimitNOFILE= or ulimit -n")
    return ok("Open files", "no limit" if limit is None else f"at most {limit}")


def check_locked_memory(limits: Path, has_gpu: bool) -> Finding:
    limit = _limit(limits, "memlock")
    if has_gpu and limit is not None:
        message = f"at most {limit // 1024} KiB"
        return warning("Locked memory", message, "LimitMEMLOCK=infinity, so that weights move fast to the GPUs")
    return ok("Locked memory", "no limit" if limit is None else f"at most {limit // 1024} KiB; without a GPU enough")


def check_shared_memory(path: Path) -> Finding:
    try:
        size_bytes = os.statvfs(path).f_blocks * os.statvfs(path).f_frsize
    except OSError as error:
        return warning("Shared memory", f"{path}: {error.strerror}", f"mount a tmpfs on {path}")
    text = f"{size_bytes / GIB:.1f} GiB at {path}"
    if size_bytes < SHARED_MEMORY_LEAST_BYTES:
        return warning("Shared memory", text, "give it 1 GiB or more; in a container: --shm-size")
    return ok("Shared memory", text)


def _ask_for_devices(config: Config) -> tuple[list[Device], Finding]:
    try:
        devices = discover_inventory(config.fleet).devices
    except HearthError as error:
        return [], problem("Devices", error.message, "correct the setting")
    shown = ", ".join(f"{device.accelerator_type} {device.memory_bytes / GIB:.1f} GiB" for device in devices)
    driver = driver_version()
    if devices and devices[0].accelerator_type == CPU and CONTROL_DEVICE.exists():
        advice = "see nvidia-smi; under systemd, see that the unit may open the devices"
        return devices, problem(
            "Devices", f"there is an NVIDIA device, but no driver that answers; so: {shown}", advice
        )
    return devices, ok("Devices", f"{shown}; NVIDIA driver {driver}" if driver else f"{shown}; no NVIDIA driver")


def _limit(limits: Path, name: str) -> int | None:
    """The soft one; None: there is none, or it may not be read."""
    try:
        lines = limits.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(_LIMITS[name]):
            soft = line.removeprefix(_LIMITS[name]).split()[0]
            return None if soft == "unlimited" else int(soft)
    return None


def _version(package: str) -> str:
    try:
        return distribution_version(package)
    except PackageNotFoundError:
        return ""
