import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from appliance.config import GIB, FleetSettings
from appliance.errors import Code, HearthError
from appliance.orchestrator.gpus import (
    HostInventory,
    NvmlInventory,
    accelerator_type_of,
    discover_inventory,
    driver_version,
    wait_for_memory,
)
from tests.fakes.fake_gpus import FakeInventory, fake_device


class DriverError(Exception):
    pass


class NotSupported(DriverError):
    pass


def driver(**changes: Any) -> ModuleType:
    """pynvml as it looks on a box with one H100."""
    nvml = ModuleType("pynvml")
    functions = {
        "NVMLError": DriverError,
        "NVMLError_NotSupported": NotSupported,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlMemory_v2": 2,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUUID": lambda handle: "GPU-1",
        "nvmlDeviceGetName": lambda handle: "NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetMemoryInfo": lambda handle, version: SimpleNamespace(total=80 * GIB, reserved=GIB),
        "nvmlDeviceGetCudaComputeCapability": lambda handle: [9, 0],
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
            SimpleNamespace(pid=7, usedGpuMemory=5 * GIB),
            SimpleNamespace(pid=8, usedGpuMemory=None),
        ],
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=42, memory=7),
        "nvmlDeviceGetPowerUsage": lambda handle: 350_500,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
    }
    for name, function in (functions | changes).items():
        setattr(nvml, name, function)
    return nvml


def test_simulated_devices_are_as_many_and_as_large_as_the_setting_says() -> None:
    devices = discover_inventory(FleetSettings(simulated_gpus="4xNVIDIA_H100_80GB")).devices
    assert [device.id for device in devices] == ["simulated-0", "simulated-1", "simulated-2", "simulated-3"]
    assert {device.accelerator_type for device in devices} == {"NVIDIA_H100_80GB"}
    assert {device.memory_bytes for device in devices} == {80 * GIB}
    assert not any(device.is_cuda for device in devices)


@pytest.mark.parametrize(
    "setting", ["4", "x", "0xNVIDIA_L4_24GB", "2xNVIDIA_L4", "2x nvidia_l4_24gb", "-1xNVIDIA_L4_24GB"]
)
def test_a_bad_simulation_is_refused_by_name(setting: str) -> None:
    with pytest.raises(HearthError) as raised:
        discover_inventory(FleetSettings(simulated_gpus=setting))
    assert raised.value.code is Code.INVALID
    assert raised.value.param == "simulated_gpus"


@pytest.mark.parametrize(
    ("name", "gigabytes", "accelerator_type"),
    [
        ("NVIDIA A100-SXM4-80GB", 80, "NVIDIA_A100_80GB"),
        ("NVIDIA A100-PCIE-40GB", 40, "NVIDIA_A100_40GB"),
        ("NVIDIA H100 80GB HBM3", 80, "NVIDIA_H100_80GB"),
        ("NVIDIA H200", 140, "NVIDIA_H200_141GB"),
        ("NVIDIA B200", 179, "NVIDIA_B200_180GB"),
        ("NVIDIA A10G", 22, "NVIDIA_A10G_24GB"),
        ("NVIDIA L4", 22, "NVIDIA_L4_24GB"),
        ("NVIDIA L40S", 45, "NVIDIA_L40S_45GB"),
        ("NVIDIA GeForce RTX 4090", 24, "NVIDIA_GEFORCE_RTX_4090_24GB"),
    ],
)
def test_gpus_have_the_names_of_the_wire(name: str, gigabytes: int, accelerator_type: str) -> None:
    assert accelerator_type_of(name, gigabytes * GIB) == accelerator_type


def test_a_gpu_is_known_by_uuid_and_offers_what_the_driver_does_not_keep() -> None:
    (device,) = NvmlInventory(driver()).devices
    assert device.id == "GPU-1"
    assert device.is_cuda
    assert device.memory_bytes == 79 * GIB


async def test_used_memory_is_told_by_process() -> None:
    assert await NvmlInventory(driver()).used_bytes("GPU-1") == {7: 5 * GIB, 8: 0}


async def test_what_a_workers_own_processes_hold_is_the_workers() -> None:
    script = "import subprocess as s; child = s.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        assert worker.stdout is not None
        child = int(await worker.stdout.readline())
        running = [SimpleNamespace(pid=worker.pid, usedGpuMemory=5), SimpleNamespace(pid=child, usedGpuMemory=7)]
        nvml = driver(nvmlDeviceGetComputeRunningProcesses=lambda handle: running)
        assert await NvmlInventory(nvml).used_bytes("GPU-1") == {worker.pid: 12}
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        await worker.wait()


async def test_a_driver_that_refuses_is_unavailable() -> None:
    def refuse(handle: object) -> object:
        raise DriverError("GPU is lost")

    inventory = NvmlInventory(driver(nvmlDeviceGetComputeRunningProcesses=refuse))
    with pytest.raises(HearthError, match="GPU is lost") as raised:
        await inventory.used_bytes("GPU-1")
    assert raised.value.code is Code.UNAVAILABLE


async def test_a_driver_that_hangs_is_asked_again_only_when_it_has_answered() -> None:
    may_answer = threading.Event()
    num_calls = 0

    def hang(handle: object) -> list[object]:
        nonlocal num_calls
        num_calls += 1
        may_answer.wait(timeout=60)
        return []

    inventory = NvmlInventory(driver(nvmlDeviceGetComputeRunningProcesses=hang), timeout_s=0.05)
    try:
        for _ in range(3):
            with pytest.raises(HearthError, match=r"does not answer|did not answer"):
                await inventory.used_bytes("GPU-1")
        assert num_calls == 1
    finally:
        may_answer.set()
    async with asyncio.timeout(30):
        while True:
            try:
                assert await inventory.used_bytes("GPU-1") == {}
                break
            except HearthError:
                await asyncio.sleep(0.01)


async def test_a_host_device_holds_nothing_of_the_dead() -> None:
    assert await HostInventory([fake_device()]).used_bytes("simulated-0") == {}


async def test_memory_is_waited_for_until_it_is_back() -> None:
    inventory = FakeInventory()
    inventory.used["simulated-0"] = {7: GIB}
    waiting = asyncio.create_task(wait_for_memory(inventory, "simulated-0", 7))
    await asyncio.sleep(0)
    assert not waiting.done()
    inventory.used["simulated-0"] = {}
    assert await waiting


async def test_memory_that_does_not_come_back_is_reported() -> None:
    inventory = FakeInventory()
    inventory.used["simulated-0"] = {7: GIB}
    assert not await wait_for_memory(inventory, "simulated-0", 7, timeout_s=0.01)
    inventory.is_answering = False
    assert not await wait_for_memory(inventory, "simulated-0", 7, timeout_s=0.01)


async def test_a_sample_tells_what_the_driver_measures_and_leaves_out_what_the_board_does_not() -> None:
    def refuse(handle: object) -> int:
        raise NotSupported

    sample = await NvmlInventory(driver()).sample("GPU-1")
    assert (sample.utilization, sample.power_w, sample.temperature_c) == (0.42, 350.5, 61)
    partial = await NvmlInventory(driver(nvmlDeviceGetPowerUsage=refuse)).sample("GPU-1")
    assert (partial.utilization, partial.power_w, partial.temperature_c) == (0.42, None, 61)


def test_the_drivers_version_is_known_where_there_is_one() -> None:
    assert bool(driver_version()) == Path("/dev/nvidiactl").exists()
