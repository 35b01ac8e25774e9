"""A step that takes longer than the daemon waits for a sign of life: on a thread of its own, watched layer by layer.

The thread alone computes meanwhile, and each layer that it has finished counts as a step of the engine. A device that
hangs is still noticed, because then no layer ends.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from runtime.embedding.request import Row, RowOutput

Compute = Callable[[Sequence[Row], Callable[[], None]], list[RowOutput]]
"""`Runner.execute`, which calls its second argument in every layer."""


class LongStep:
    def __init__(self, compute: Compute, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._signs: SimpleQueue[Future[list[RowOutput]] | None] = SimpleQueue()
        """None for a layer, then how it ended."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-step")
        thread.submit(compute, rows, lambda: self._signs.put(None)).add_done_callback(self._signs.put)
        thread.shutdown(wait=False)  # it ends with the step

    def advance(self) -> list[RowOutput] | None:
        """Wait for the next layer; None: there are more. What the computation raises comes out here."""
        ended = self._signs.get()
        return None if ended is None else ended.result()
