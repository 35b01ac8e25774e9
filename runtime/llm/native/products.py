"""Products with weights that C has packed, on CPUs that multiply bfloat16."""

from ctypes import byref

import torch

from runtime.llm.native import library
from runtime.llm.native.huge_pages import HugePages

_BLOCK = 64
"""Outputs that lie together; `products.h`."""
_memory = HugePages()


class NativeProduct:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """`weight` [outputs, inputs] may go afterwards, `bias` stays where it is."""
        num_outputs, num_inputs = weight.shape
        weight = weight.contiguous()
        self._packed = _memory.take(2 * num_inputs * (-(-num_outputs // _BLOCK) * _BLOCK))
        self._bias = bias
        bias_address = None if bias is None else bias.data_ptr()
        self.linear = library.Linear(
            self._packed.data_ptr(), bias_address, num_inputs, num_outputs, library.suits_amx(num_inputs)
        )
        """Its memory is this object's."""
        self._reference = byref(self.linear)
        functions = library.functions()
        functions.pack_weight(self._reference, weight.data_ptr(), self._packed.data_ptr())
        self._multiply = functions.multiply_rows

    def multiply(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = inputs.contiguous()
        outputs = inputs.new_empty((*inputs.shape[:-1], self.linear.num_outputs))
        num_rows = inputs.numel() // self.linear.num_inputs
        self._multiply(self._reference, inputs.data_ptr(), outputs.data_ptr(), num_rows)
        return outputs


def can_multiply(weight: torch.Tensor) -> bool:
    return weight.dtype is torch.bfloat16 and weight.shape[1] % 2 == 0 and library.load() is not None
