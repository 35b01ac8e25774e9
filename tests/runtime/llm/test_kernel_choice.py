import subprocess
import sys

import pytest
import torch

from runtime.llm.kernel_choice import NO_KERNELS, choose_kernels, triton_kernels
from runtime.llm.patches.operations import PLAIN


@pytest.mark.parametrize("are_enabled", [False, True])
def test_a_cpu_computes_in_plain_torch(are_enabled: bool) -> None:
    assert choose_kernels(torch.device("cpu"), are_enabled=are_enabled) == NO_KERNELS


def test_kernels_that_are_switched_off_are_no_kernels_on_a_gpu_either() -> None:
    assert choose_kernels(torch.device("cuda"), are_enabled=False) == NO_KERNELS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_computes_by_kernels() -> None:
    assert choose_kernels(torch.device("cuda"), are_enabled=True) == triton_kernels()


def test_kernels_stand_in_for_every_plain_operation() -> None:
    kernels = triton_kernels()
    assert not set(kernels.layer) & set(PLAIN)
    assert kernels.sampling is not None
    assert kernels.lora is not None


def test_a_worker_on_a_cpu_never_imports_triton() -> None:
    program = (
        "import sys, torch, runtime.llm.load\n"
        "from runtime.llm.kernel_choice import choose_kernels\n"
        "choose_kernels(torch.device('cpu'), are_enabled=True)\n"
        "assert 'triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
