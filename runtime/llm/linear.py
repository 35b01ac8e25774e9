"""Linear layers for inference: several that read the same input become one product, of weights packed for a CPU.

torch's own linear re-orders its weight on every call on a CPU, which at small batches costs as much as reading it:
packed is 2.0 times as fast at 1 row, 1.4 times at 32, the same from some hundred rows on. Packing takes about a second
per GB, so it may be put off: until `pack` is called a layer computes from its weights as they lie in the file.
"""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from runtime.llm.native.products import NativeProduct, can_multiply
from runtime.memory import return_freed_memory

_BATCH_HINT = 32
"""Rows that the packed layout is made for; with this one no other number of rows is slow."""


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this torch and this CPU have packed matrix products for the dtype."""
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight") or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


Release = Callable[[torch.Tensor], None]
"""Told of each weight whose memory is no longer read."""


def merge(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Rows of all of them: a view where they follow one another in memory, as in an arena, else a copy."""
    return torch.cat(tensors) if (joint := _joint_view(tensors)) is None else joint


def _joint_view(tensors: list[torch.Tensor]) -> torch.Tensor | None:
    first = tensors[0]
    end = first.storage_offset()
    for tensor in tensors:
        is_alike = tensor.dtype is first.dtype and tensor.shape[1:] == first.shape[1:] and tensor.is_contiguous()
        is_beside = tensor.storage_offset() == end
        if not is_alike or not is_beside or tensor.untyped_storage()._cdata != first.untyped_storage()._cdata:
            return None
        end += tensor.numel()
    num_rows = sum(len(tensor) for tensor in tensors)
    return first.as_strided((num_rows, *first.shape[1:]), first.stride(), first.storage_offset())


class PackedWeight:
    """In another order, oneDNN's or that of C, which takes as much memory again; with the bias that its product has."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._bias = bias
        self._packed: torch.Tensor | None = None
        self.native_product: NativeProduct | None = None
        if can_multiply(weight):
            self.native_product = NativeProduct(weight, bias)
        else:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _BATCH_HINT)

    def multiply(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.native_product is not None:
            return self.native_product.multiply(inputs)
        return _linear_pointwise(inputs, self._packed, self._bias, "none", [], "")


class Linear(nn.Module):
    """One or several nn.Linear over the same input; outputs follow one another in the last dimension."""

    def __init__(self, sources: list[nn.Linear], release: Release) -> None:
        super().__init__()
        weights = [source.weight.detach() for source in sources]
        biases = [source.bias.detach() for source in sources if source.bias is not None]
        assert len(biases) in {0, len(sources)}, "either all have a bias or none"
        self.output_sizes = [len(weight) for weight in weights]
        """Of each source."""
        self.is_packable: bool = can_pack(weights[0].dtype, weights[0].device)
        self._bias = merge(biases) if biases else None
        joint = _joint_view(weights)
        self._weights = weights if joint is None else [joint]
        self._packed: PackedWeight | None = None
        self._release = release
        if joint is None and not self.is_packable:
            self._weights = [torch.cat(weights)]
            self._release_all(weights)

    def pack(self) -> None:
        if self._packed is None:
            weight = torch.cat(self._weights) if len(self._weights) > 1 else self._weights[0]
            self._packed = PackedWeight(weight, self._bias)
            self._release_all(self._weights)
            self._weights = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._packed is not None:
            return self._packed.multiply(inputs)
        if len(self._weights) == 1:
            return functional.linear(inputs, self._weights[0], self._bias)
        outputs = torch.cat([functional.linear(inputs, weight) for weight in self._weights], dim=-1)
        return outputs if self._bias is None else outputs.add_(self._bias)

    @property
    def native_product(self) -> NativeProduct | None:
        """None until it is packed, and where there is none."""
        return None if self._packed is None else self._packed.native_product

    def _release_all(self, weights: list[torch.Tensor]) -> None:
        for weight in weights:
            self._release(weight)


class Packable(Protocol):
    @property
    def is_packable(self) -> bool: ...

    def pack(self) -> None: ...


class Packing:
    """Packs layers a few at a time, so that the first tokens need not wait for all of them."""

    def __init__(self, layers: Iterable[Packable]) -> None:
        self._layers = [layer for layer in layers if layer.is_packable][::-1]

    def __bool__(self) -> bool:
        return bool(self._layers)

    def advance(self, seconds: float) -> None:
        """Pack for about this long."""
        deadline = perf_counter() + seconds
        while self._layers and perf_counter() < deadline:
            self._layers.pop().pack()
            if not self._layers:
                return_freed_memory()


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _linear_pointwise: Callable[..., torch.Tensor] = torch.ops.mkldnn._linear_pointwise.default
