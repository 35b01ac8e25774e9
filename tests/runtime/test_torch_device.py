import pytest
import torch

from runtime.engine import LoadRefused
from runtime.torch_device import find_device, open_device


def test_a_cpu_computes_what_it_is_quick_at() -> None:
    assert find_device("cpu", "bfloat16") == torch.device("cpu")
    with pytest.raises(LoadRefused, match="serve as bfloat16 or float32"):
        find_device("cpu", "float16")


def test_opening_a_cpu_is_nothing_to_do() -> None:
    open_device(torch.device("cpu"))
    assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(LoadRefused, match="no CUDA device, and was told to use cuda:3"):
        find_device("cuda:3", "float16")
