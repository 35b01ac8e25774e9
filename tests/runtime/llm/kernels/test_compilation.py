"""All kernels compile for GPUs that are not here: the interpreter takes more of Python than the compiler does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAPABILITY = "90"


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        ["compile_attention", CAPABILITY],
        ["compile_layers", CAPABILITY, "bfloat16"],
        ["compile_layers", CAPABILITY, "float32"],
        ["compile_products", CAPABILITY, "bfloat16"],
        ["compile_products", CAPABILITY, "float32"],
    ],
    ids=" ".join,
)
def test_kernels_compile_for_a_gpu_that_is_not_here(program: list[str], tmp_path: Path) -> None:
    name, *arguments = program
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    compiling = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"tests.runtime.llm.kernels.{name}", *arguments],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiling.returncode == 0, compiling.stderr
