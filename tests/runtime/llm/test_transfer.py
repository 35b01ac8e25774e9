import numpy as np
import pytest
import torch

from runtime.llm.transfer import Arrival, indices_on, to_device

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_tables_arrive_as_they_were(device: str) -> None:
    table = np.arange(12, dtype=np.float64).reshape(3, 4)
    there = to_device(table, torch.device(device))
    assert there.device.type == device
    assert there.tolist() == table.tolist()
    assert indices_on(torch.device(device), [3, 1]).tolist() == [3, 1]


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_on_its_way_to_the_host_is_what_it_was(device: str) -> None:
    tensors = [torch.arange(5, device=device), torch.ones(0, device=device), torch.full((2, 3), 0.5, device=device)]
    arrival = Arrival(tensors, torch.device(device))
    assert [tensor.tolist() for tensor in arrival.wait()] == [[0, 1, 2, 3, 4], [], [[0.5] * 3] * 2]
    assert all(tensor.device.type == "cpu" for tensor in arrival.wait())
