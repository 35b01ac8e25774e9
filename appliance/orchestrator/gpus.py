"""Which devices this box has, how large they are, and which processes hold their memory now.

Devices are known by UUID: CUDA ordinals change with the environment. NVML is asked in a thread with a deadline, since
a sick driver hangs. Never decides who may use what: that is the ledger's.
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import msgspec

from appliance.config import GIB, FleetSettings
from appliance.errors import Code, HearthError
from models.fp8 import MULTIPLYING_CAPABILITIES

NVML_TIMEOUT_S = 5.0
MEMORY_RETURN_TIMEOUT_S = 10.0
MEMORY_POLL_S = 0.05
CPU = "CPU"

# First match wins: words that must all be in the NVML name, least memory, the wire's accelerator type.
_ACCELERATOR_TYPES: list[tuple[set[str], int, str]] = [
    ({"A100"}, 60 * GIB, "NVIDIA_A100_80GB"),
    ({"A100"}, 0, "NVIDIA_A100_40GB"),
    ({"H100"}, 0, "NVIDIA_H100_80GB"),
    ({"H200"}, 0, "NVIDIA_H200_141GB"),
    ({"B200"}, 0, "NVIDIA_B200_180GB"),
    ({"B300"}, 0, "NVIDIA_B300_288GB"),
    ({"A10G"}, 0, "NVIDIA_A10G_24GB"),
    ({"L4"}, 0, "NVIDIA_L4_24GB"),
]
_SIMULATED = re.compile(r"([1-9][0-9]{0,2})x([A-Z][A-Z0-9_]*_([1-9][0-9]{0,3})GB)")

T = TypeVar("T")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """NVML's UUID, `simulated-N`, or `cpu`."""
    index: int
    accelerator_type: str
    """The wire's, e.g. NVIDIA_H100_80GB; `CPU` where there is no GPU."""
    memory_bytes: int
    is_cuda: bool
    """Whether workers run on a GPU; false for the CPU and for simulated devices."""
    multiplies_fp8: bool = False
    """Whether its libraries have products of 8-bit floats."""


class DeviceSample(msgspec.Struct, frozen=True, kw_only=True):
    """How hard a GPU works at this moment; None where its driver does not tell."""

    utilization: float | None = None
    """Share of the last moments in which some kernel ran, 0 to 1."""
    power_w: float | None = None
    temperature_c: float | None = None


class Inventory(Protocol):
    @property
    def devices(self) -> list[Device]: ...

    async def used_bytes(self, device_id: str) -> dict[int, int]:
        """Device memory by pid, of anyone's processes; what our workers' own processes hold counts as the workers'.

        Raises `unavailable` when the driver does not answer.
        """

    async def sample(self, device_id: str) -> DeviceSample:
        """For display; raises `unavailable` when the driver does not answer."""


class HostInventory:
    """Devices whose memory is the host's: a dead process holds none of it, so there is nothing to ask."""

    def __init__(self, devices: list[Device]) -> None:
        self.devices = devices

    async def used_bytes(self, device_id: str) -> dict[int, int]:
        return {}

    async def sample(self, device_id: str) -> DeviceSample:
        return DeviceSample()


class NvmlInventory:
    """The NVIDIA GPUs of this box; `nvml` is the pynvml module."""

    def __init__(self, nvml: ModuleType, timeout_s: float = NVML_TIMEOUT_S) -> None:
        self._nvml = nvml
        self._timeout_s = timeout_s
        self._stuck: asyncio.Future[Any] | None = None
        nvml.nvmlInit()
        self.devices = [self._describe(index) for index in range(nvml.nvmlDeviceGetCount())]

    async def used_bytes(self, device_id: str) -> dict[int, int]:
        return await self._ask(lambda: self._read_processes(device_id))

    async def sample(self, device_id: str) -> DeviceSample:
        return await self._ask(lambda: self._read_sample(device_id))

    def _describe(self, index: int) -> Device:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle, version=self._nvml.nvmlMemory_v2)
        return Device(
            id=self._nvml.nvmlDeviceGetUUID(handle),
            index=index,
            accelerator_type=accelerator_type_of(self._nvml.nvmlDeviceGetName(handle), memory.total),
            memory_bytes=memory.total - memory.reserved,  # what the driver keeps for itself is nobody's
            is_cuda=True,
            multiplies_fp8=tuple(self._nvml.nvmlDeviceGetCudaComputeCapability(handle)) in MULTIPLYING_CAPABILITIES,
        )

    def _read_processes(self, device_id: str) -> dict[int, int]:
        handle = self._nvml.nvmlDeviceGetHandleByUUID(device_id)
        processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        used_bytes: Counter[int] = Counter()
        for process in processes:
            used_bytes[_worker_of(process.pid)] += process.usedGpuMemory or 0
        return dict(used_bytes)

    def _read_sample(self, device_id: str) -> DeviceSample:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByUUID(device_id)
        utilization = self._read_or_none(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        milliwatts = self._read_or_none(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        celsius = self._read_or_none(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return DeviceSample(
            utilization=None if utilization is None else utilization / 100,
            power_w=None if milliwatts is None else milliwatts / 1000,
            temperature_c=celsius,
        )

    def _read_or_none(self, read: Callable[[], float]) -> float | None:
        """Not every board measures everything."""
        try:
            return read()
        except self._nvml.NVMLError_NotSupported:
            return None

    async def _ask(self, question: Callable[[], T]) -> T:
        """Ask in a thread. A call that hangs is left behind, and no other is sent after it until it returns."""
        if self._stuck is not None and not self._stuck.done():
            raise HearthError(Code.UNAVAILABLE, "the NVIDIA driver does not answer")
        call = asyncio.ensure_future(asyncio.to_thread(question))
        done, _ = await asyncio.wait({call}, timeout=self._timeout_s)
        if not done:
            self._stuck = call
            raise HearthError(Code.UNAVAILABLE, f"the NVIDIA driver did not answer within {self._timeout_s:g} s")
        try:
            return call.result()
        except self._nvml.NVMLError as error:
            raise HearthError(Code.UNAVAILABLE, f"the NVIDIA driver refused: {error}") from error


def discover_inventory(settings: FleetSettings) -> Inventory:
    """Simulated devices when the setting asks for them, else the GPUs, else the CPU. Blocking, for the start only."""
    if settings.simulated_gpus:
        return HostInventory(_simulate(settings.simulated_gpus))
    return _discover_gpus() or HostInventory([_describe_cpu(settings.cpu_memory_fraction)])


def driver_version() -> str:
    """Of the NVIDIA driver; empty where there is none. Blocking, and a sick driver never answers."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return ""


def host_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


async def wait_for_memory(
    inventory: Inventory, device_id: str, pid: int, timeout_s: float = MEMORY_RETURN_TIMEOUT_S
) -> bool:
    """Wait until a process that has ended holds no memory of the device; False when it still does after a while."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while await _holds_memory(inventory, device_id, pid):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(MEMORY_POLL_S)
    return True


def accelerator_type_of(nvml_name: str, memory_bytes: int) -> str:
    """The wire's name of a GPU; one that the wire has no name for gets a name in the same style."""
    words = set(re.split(r"[ -]", nvml_name.upper()))
    for required, least_bytes, accelerator_type in _ACCELERATOR_TYPES:
        if required <= words and memory_bytes >= least_bytes:
            return accelerator_type
    name = re.sub(r"[^A-Z0-9]+", "_", nvml_name.upper())
    return f"{name}_{round(memory_bytes / GIB)}GB"


def _worker_of(pid: int) -> int:
    """Whoever leads its session, if that is a worker of ours, which is a child of this process; else itself."""
    try:
        leader = os.getsid(pid)
        text = Path(f"/proc/{leader}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return pid
    parent = int(text[text.rindex(")") + 2 :].split()[1])
    return leader if parent == os.getpid() else pid


async def _holds_memory(inventory: Inventory, device_id: str, pid: int) -> bool:
    try:
        return pid in await inventory.used_bytes(device_id)
    except HearthError:
        return True  # the driver does not answer: nobody knows


def _discover_gpus() -> Inventory | None:
    import pynvml  # only where no simulation is asked for: it looks for the driver's library

    try:
        inventory = NvmlInventory(pynvml)
    except pynvml.NVMLError:
        return None  # no driver or no device
    return inventory if inventory.devices else None


def _simulate(setting: str) -> list[Device]:
    match = _SIMULATED.fullmatch(setting)
    if match is None:
        message = f"bad setting: simulated_gpus {setting!r} is not of the form COUNTxTYPE, e.g. 4xNVIDIA_H100_80GB"
        raise HearthError(Code.INVALID, message, "simulated_gpus")
    count, accelerator_type, gigabytes = match.groups()
    return [
        Device(
            id=f"simulated-{index}",
            index=index,
            accelerator_type=accelerator_type,
            memory_bytes=int(gigabytes) * GIB,
            is_cuda=False,
        )
        for index in range(int(count))
    ]


def _describe_cpu(memory_fraction: float) -> Device:
    return Device(
        id="cpu",
        index=0,
        accelerator_type=CPU,
        memory_bytes=int(host_memory_bytes() * memory_fraction),
        is_cuda=False,
    )
