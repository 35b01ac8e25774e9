"""How the rows of a step that name an adapter come to have it: added to what the model's linear layers put out.

The layers know nothing of it. While a step has such rows a hook stands behind each of them; a step without any is
computed as if there were no adapters in this world, and so are the other rows of a step that has some, to the bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch.utils.hooks import RemovableHandle

from runtime.llm.adapters.adapter import LoraAdapter, Rows
from runtime.llm.linear import Linear
from runtime.llm.transfer import indices_on


class AdaptedRow(Protocol):
    """Tokens of one request in a flattened batch."""

    @property
    def token_ids(self) -> Sequence[int]: ...

    @property
    def adapter(self) -> object | None: ...


class _Group(NamedTuple):
    adapter: LoraAdapter
    rows: Rows


class Adaptation(ABC):
    """Only the engine's thread may use it. `linears`: those that any adapter may change."""

    is_replayable = False
    """Whether a graph that was captured inside `applied` may be replayed inside it for other rows."""

    def __init__(self, linears: Iterable[Linear], device: torch.device) -> None:
        self._linears = list(dict.fromkeys(linears))
        self._device = device
        self._hooks: list[RemovableHandle] = []
        """There, or not, as the last step needed them: neighbouring steps are much alike."""
        self._is_applied = False

    @contextmanager
    def applied(self, rows: Sequence[AdaptedRow]) -> Iterator[None]:
        """While the decoder computes these rows."""
        is_needed = self._begin(rows)
        if is_needed != bool(self._hooks):
            self._set_hooks(is_needed)
        self._is_applied = is_needed
        try:
            yield
        finally:
            self._is_applied = False
            self._end()

    @abstractmethod
    def _begin(self, rows: Sequence[AdaptedRow]) -> bool:
        """Be ready for these rows; whether any has an adapter."""

    @abstractmethod
    def _end(self) -> None:
        """They are computed, or will not be."""

    @abstractmethod
    def _add(self, linear: Linear, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Both are [tokens, …] of the whole step."""

    def _set_hooks(self, are_needed: bool) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = [linear.register_forward_hook(self._hook) for linear in self._linears] if are_needed else []

    def _hook(self, linear: torch.nn.Module, arguments: tuple[torch.Tensor], outputs: torch.Tensor) -> None:
        assert isinstance(linear, Linear)
        if self._is_applied:
            (inputs,) = arguments
            self._add(linear, inputs.flatten(0, -2), outputs.view(-1, outputs.shape[-1]))


class PlainAdaptation(Adaptation):
    """Adapter by adapter, in plain torch: the reference, and what runs on CPUs."""

    def __init__(self, linears: Iterable[Linear], device: torch.device) -> None:
        super().__init__(linears, device)
        self._groups: list[_Group] = []
        """Of the step that is being computed."""

    def _begin(self, rows: Sequence[AdaptedRow]) -> bool:
        self._groups = self._group(rows)
        return bool(self._groups)

    def _end(self) -> None:
        self._groups = []

    def _add(self, linear: Linear, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        for adapter, rows in self._groups:
            change = adapter.changes.get(linear)
            if change is not None:
                change.add(inputs, outputs, rows)

    def _group(self, rows: Sequence[AdaptedRow]) -> list[_Group]:
        spans: dict[LoraAdapter, list[range]] = {}
        first = 0
        for row in rows:
            stop = first + len(row.token_ids)
            if row.adapter is not None:
                assert isinstance(row.adapter, LoraAdapter), row.adapter
                _append(spans.setdefault(row.adapter, []), range(first, stop))
            first = stop
        return [_Group(adapter, self._rows(own)) for adapter, own in spans.items()]

    def _rows(self, spans: list[range]) -> Rows:
        if len(spans) == 1:
            return slice(spans[0].start, spans[0].stop)
        return indices_on(self._device, [index for span in spans for index in span])


def _append(spans: list[range], span: range) -> None:
    if spans and spans[-1].stop == span.start:
        spans[-1] = range(spans[-1].start, span.stop)
    else:
        spans.append(span)
