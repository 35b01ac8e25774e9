"""Graphs without a GPU: what a function did on tensors is written down, and done again on the same tensors.

As with CUDA's graphs, nothing that the host decides is decided again: operations of torch and launches of Triton's
kernels are repeated with the arguments of the first time, and results go to where they went then.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from triton.runtime import interpreter

Work = Callable[[], None]


class RecordedGraphs:
    """Implements `graphs.Capturer`; each recording counts as so many bytes."""

    def __init__(self, bytes_each: int = 1, refused: Callable[[int], bool] = lambda index: False) -> None:
        """`refused`: which captures fail, by their number."""
        self._bytes_each = bytes_each
        self._refused = refused
        self.num_captures = self.num_replays = self.num_releases = 0
        self._num_held = 0

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self.num_captures += 1
        if self._refused(self.num_captures - 1):
            raise RuntimeError("operation not permitted when stream is capturing")
        function()
        tape: list[Work] = []
        with _recorded_kernels(tape), _Recorder(tape):
            function()
        self._num_held += 1

        def replay() -> None:
            self.num_replays += 1
            for work in tape:
                work()

        return replay

    def size_bytes(self) -> int:
        return self._num_held * self._bytes_each

    def release(self) -> None:
        self.num_releases += 1
        self._num_held = 0


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as torch has it
    def __init__(self, tape: list[Work]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tape = tape

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        results = func(*args, **options)

        def repeat() -> None:
            again = func(*args, **options)
            for place, result in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if isinstance(place, torch.Tensor) and place.data_ptr() != result.data_ptr():
                    place.copy_(result)

        self._tape.append(repeat)
        return results


@contextmanager
def _recorded_kernels(tape: list[Work]) -> Iterator[None]:
    launch = interpreter.GridExecutor.__call__

    def recorded(self: Any, *args: Any, **options: Any) -> None:
        tape.append(lambda: launch(self, *args, **options))
        with _disable_current_modes():
            launch(self, *args, **options)

    interpreter.GridExecutor.__call__ = recorded
    try:
        yield
    finally:
        interpreter.GridExecutor.__call__ = launch
