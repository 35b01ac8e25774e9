"""Refuses calls of torch that would make a host wait for a GPU, also where tensors are on the CPU and none does.

It knows the calls that read a tensor's values, and those that bring some from Python's lists to a device.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

READING = {
    "__bool__",
    "__float__",
    "__index__",
    "__int__",
    "cpu",
    "equal",
    "item",
    "masked_select",
    "nonzero",
    "tolist",
    "unique",
}


class NoWaiting(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        assert name not in READING, f"{name} reads a tensor"
        assert function is not torch.tensor, "torch.tensor copies a list"
        if name in ("__getitem__", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(part, list) for part in index), "a list as an index is copied"
            assert not any(isinstance(part, torch.Tensor) and part.dtype is torch.bool for part in index), "counted"
        if name == "to" and "cpu" in (*args[1:], kwargs.get("device")):
            assert kwargs.get("non_blocking"), "a copy that is waited for"
        return function(*args, **kwargs)
