"""Linear layers whose weights stay in 8-bit floats: half the bytes to read, and tensor cores that are twice as fast.

Inputs are brought to 8 bits token by token, by the largest number of each, so that no token's result depends on
another's. `make_linear` is how a layer is made of transformers' own, whatever their weights are stored in.
"""

import torch
from torch import nn

from runtime.llm.fp8 import FP8, multiply, quantise_rows, rescale
from runtime.llm.linear import Linear, Release, merge

SCALE = "weight_scale"
"""Buffer of an nn.Linear whose weight is quantised: float32 [rows, 1]."""


def make_linear(sources: list[nn.Linear], release: Release) -> Linear:
    """One layer of several over the same input; see `Linear`."""
    quantised = [source for source in sources if source.weight.dtype is FP8]
    if quantised and len(quantised) == len(sources):
        return Fp8Linear(sources)
    for source in quantised:  # a checkpoint may leave out some of those that become one product
        dtype = next(other.weight.dtype for other in sources if other not in quantised)
        numbers = rescale("row", source.weight.detach().to(dtype), source.get_buffer(SCALE))
        source.weight = nn.Parameter(numbers, requires_grad=False)
    return Linear(sources, release)


class Fp8Linear(Linear):
    def __init__(self, sources: list[nn.Linear]) -> None:
        nn.Module.__init__(self)  # `Linear` would look at the weights as numbers
        biases = [source.bias.detach() for source in sources if source.bias is not None]
        assert len(biases) in {0, len(sources)}, "either all have a bias or none"
        self.output_sizes = [len(source.weight) for source in sources]
        self.is_packable = False
        self._bias = merge(biases) if biases else None
        self._weight = merge([source.weight.detach() for source in sources])
        self._scale = torch.cat([source.get_buffer(SCALE) for source in sources])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows, scale = quantise_rows(inputs.flatten(0, -2))
        outputs = multiply(rows, scale, self._weight, self._scale, self._bias, inputs.dtype)
        return outputs.view(*inputs.shape[:-1], -1)
