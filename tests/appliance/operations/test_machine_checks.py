"""What the doctor says of a machine, from healthy to sick."""

import sys
from pathlib import Path

import pytest

from appliance.config import Config, FleetSettings
from appliance.operations.findings import Verdict
from appliance.operations.machine_checks import (
    check_locked_memory,
    check_machine,
    check_open_files,
    check_packages,
    check_python,
    check_shared_memory,
    check_sqlite,
    check_torch_build,
    find_devices,
)

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            {nofile:<20} 1048576              files
Max locked memory         {memlock:<20} unlimited            bytes
"""


@pytest.fixture
def limits(tmp_path: Path) -> Path:
    return tmp_path / "limits"


def test_this_machine_runs_the_tests_and_so_has_no_problem() -> None:
    findings = list(
        check_machine(Config(data_dir=Path("/d"), fleet=FleetSettings(simulated_gpus="1xNVIDIA_L4_24GB")), None)
    )
    assert not [finding for finding in findings if finding.verdict is Verdict.PROBLEM]
    names = [finding.check for finding in findings]
    assert names == [
        "Python", "Packages", "SQLite", "Devices", "Torch", "Open files", "Locked memory", "Shared memory"
    ]  # fmt: skip
    assert check_python().message.startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_the_versions_are_told_without_importing_anything_large() -> None:
    assert "torch 2." in check_packages().message
    assert check_sqlite().verdict is Verdict.OK


def test_a_torch_without_cuda_on_a_machine_with_gpus_is_a_problem() -> None:
    without_gpu, with_gpu = check_torch_build(has_gpu=False), check_torch_build(has_gpu=True)
    assert without_gpu.verdict is Verdict.OK
    is_cpu_build = without_gpu.message.endswith("+cpu")
    assert with_gpu.verdict is (Verdict.PROBLEM if is_cpu_build else Verdict.OK)


def test_a_setting_that_names_no_devices_is_a_problem() -> None:
    devices, finding = find_devices(Config(data_dir=Path("/d"), fleet=FleetSettings(simulated_gpus="many")))
    assert not devices
    assert finding.verdict is Verdict.PROBLEM
    assert "simulated_gpus" in finding.message


def test_fewer_files_than_connections_are_warned_of(limits: Path) -> None:
    limits.write_text(LIMITS.format(nofile=1024, memlock=65536))
    finding = check_open_files(limits, 2048)
    assert finding.verdict is Verdict.WARNING
    assert "2560" in finding.advice
    assert check_open_files(limits, 100).verdict is Verdict.OK


def test_locked_memory_matters_where_there_is_a_gpu(limits: Path) -> None:
    limits.write_text(LIMITS.format(nofile=1024, memlock=65536))
    assert check_locked_memory(limits, has_gpu=True).verdict is Verdict.WARNING
    assert check_locked_memory(limits, has_gpu=False).message == "at most 64 KiB; without a GPU enough"
    limits.write_text(LIMITS.format(nofile=1024, memlock="unlimited"))
    assert check_locked_memory(limits, has_gpu=True).message == "no limit"


def test_limits_that_may_not_be_read_are_no_finding(limits: Path) -> None:
    assert check_open_files(limits, 2048).verdict is Verdict.OK


def test_shared_memory_that_is_missing_is_warned_of(tmp_path: Path) -> None:
    assert check_shared_memory(tmp_path / "none").verdict is Verdict.WARNING
