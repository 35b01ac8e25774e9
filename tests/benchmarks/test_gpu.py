"""The benchmark of a GPU where there is none: every row is there, and kernels are right as far as Triton interprets."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from benchmarks.gpu import ROOT, Run
from benchmarks.gpu_options import BUDGETS_S, Options
from benchmarks.gpu_process import specs_of
from benchmarks.gpu_rows import NEEDS_CUDA, Row
from benchmarks.gpu_setting import Setting

CUDA_ONLY = {"limits", "idle"}
"""Parts, or beginnings of rows, that a CPU has nothing to say to."""


def run_dry(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Status, rows and the table."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = ran.stdout.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    return ran.returncode, rows, "\n".join(line for line in lines if not line.startswith("{")) + ran.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the dry run is for machines without a GPU")
def test_a_dry_run_has_every_row_and_every_kernel_passes_its_check() -> None:
    status, rows, said = run_dry("--budget-s", "600", "--total-s", "600")
    assert status == 0, said
    setting = Setting(torch.device("cpu"), is_tiny=True)
    expected = [(part, spec.name) for part in BUDGETS_S for spec in specs_of(part, setting)]
    assert [(row["part"], row["row"]) for row in rows] == expected
    for row in rows:
        name = f"{row['part']}/{row['row']}"
        if row["part"] == "checks":
            assert row["status"] == "passed", row
        elif row["part"] in CUDA_ONLY or row["row"].partition(".")[0] in CUDA_ONLY:
            assert row["reason"] == NEEDS_CUDA, name
        elif row["row"].endswith(("graphs_off", "look_ahead_off")) or row["row"].startswith("capture"):
            assert row["status"] == "measured" or "this engine" in row["reason"] or row["reason"] == NEEDS_CUDA, row
        else:
            assert row["status"] == "measured", row
        assert row["conditions"]["torch"]
        assert row["row"] in said


def test_rows_that_no_time_is_left_for_are_skipped() -> None:
    status, rows, said = run_dry("--only", "sampling", "--total-s", "0.001")
    assert status == 0, said
    assert {row["status"] for row in rows} == {"skipped"}


def run_failing(*parts: str) -> list[Row]:
    options = Options(
        device="cpu",
        is_tiny=True,
        parts=list(parts),
        budgets_s=dict.fromkeys(parts, 100.0),
        ends_at=time.time() + 100,
    )
    return list(Run(options, "tests.benchmarks.failing_process").rows())


def test_a_row_that_kills_its_process_fails_alone() -> None:
    rows = run_failing("first", "second")
    names = ["before", "fatal", "after"]
    assert [(row.part, row.name) for row in rows] == [(part, name) for part in ("first", "second") for name in names]
    assert [row.status for row in rows] == ["measured", "failed", "measured"] * 2
    assert "status 7" in rows[1].reason


def test_a_part_that_begins_no_row_fails_and_the_next_goes_on() -> None:
    rows = run_failing("stuck", "first")
    assert [row.status for row in rows] == ["failed"] * 3 + ["measured", "failed", "measured"]
    assert "status 9" in rows[0].reason


def test_a_device_that_is_not_there_is_said_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("it is there")
    command = [sys.executable, "-m", "benchmarks.gpu", "--only", "limits"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "torch sees no CUDA device" in ran.stderr
