import subprocess
import sys

import pytest
import torch

from runtime.llm.kernel_choice import NO_KERNELS, choose_kernels, triton_kernels
from runtime.llm.native.operations import NATIVE
from runtime.llm.patches.layer_operations import PLAIN
from tests.fakes.native import needs_native

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_kernels_that_are_switched_off_are_no_kernels(device: torch.device) -> None:
    assert choose_kernels(device, torch.bfloat16, are_enabled=False) == NO_KERNELS


def test_a_cpu_computes_other_dtypes_in_plain_torch() -> None:
    assert choose_kernels(CPU, torch.float32, are_enabled=True) == NO_KERNELS


@needs_native
def test_a_cpu_computes_bfloat16_in_c() -> None:
    assert choose_kernels(CPU, torch.bfloat16, are_enabled=True).layer == NATIVE


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_computes_by_kernels() -> None:
    assert choose_kernels(CUDA, torch.bfloat16, are_enabled=True) == triton_kernels()


def test_kernels_stand_in_for_every_plain_operation() -> None:
    kernels = triton_kernels()
    assert not set(kernels.layer[:4]) & set(PLAIN[:4])
    assert kernels.sampling is not None
    assert kernels.lora is not None


def test_a_worker_on_a_cpu_never_imports_triton() -> None:
    program = (
        "import sys, torch, runtime.llm.load\n"
        "from runtime.llm.kernel_choice import choose_kernels\n"
        "choose_kernels(torch.device('cpu'), torch.bfloat16, are_enabled=True)\n"
        "assert 'triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
