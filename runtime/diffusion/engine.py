"""The image engine's loop body: begin pictures, take all of one shape a step further, finish those that are done.

One step of the engine does one of the three, so that a request that was aborted stops at the next. Pictures of one
shape are computed side by side, each at a step of its own; the rest waits its turn. How a step is computed is the
painter's affair.
"""

import logging
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import torch

from runtime.diffusion.request import (
    BatchKey,
    DiffusionOutput,
    DrawRequest,
    Failure,
    Finished,
    Pixels,
    Progressed,
)
from runtime.diffusion.waiting_line import Waiting, WaitingLine
from runtime.engine import Engine, EngineStats, Memory, RequestRefused
from runtime.message import FailureCode

logger = logging.getLogger(__name__)

WAITING_BYTES_MAX = 1024**3
"""Of pictures that came with requests that wait."""
STEP_WEIGHT = 0.1
"""Of the newest step in the average of their times."""


class Painting(Protocol):
    """A picture on its way from noise; the painter's own."""

    num_steps: int
    num_steps_done: int


class Painted(NamedTuple):
    pixels: Pixels
    is_filtered: bool


class Painter(Protocol):
    """Computes on the device; `sdxl.py` and `flux.py` in earnest. What one picture alone causes it raises."""

    def begin(self, request: DrawRequest, seed: int) -> Any:
        """A Painting."""

    def predict(self, paintings: Sequence[Any]) -> list[torch.Tensor]:
        """What each one's next step has to take away; nothing is changed yet."""

    def advance(self, painting: Any, prediction: torch.Tensor) -> None: ...

    def finish(self, painting: Any) -> Painted: ...

    def release(self) -> None:
        """There are no paintings any more: keep nothing that belonged to one."""


class _Begun:
    """A picture that is being made."""

    def __init__(self, waiting: Waiting) -> None:
        self.request = waiting.request
        self.index = waiting.index
        self.painting: Painting | None = None
        """None: it has a place, and nothing was computed yet."""

    @property
    def is_painted(self) -> bool:
        return self.painting is not None and self.painting.num_steps_done >= self.painting.num_steps


class _Call:
    """A request that has not ended."""

    def __init__(self, request: DrawRequest) -> None:
        self.request = request
        self.num_left = len(request.seeds)
        self.num_steps_done = 0
        self.num_steps = 0
        """Of a picture; known when the first one begins."""


class DiffusionEngine(Engine[DrawRequest, DiffusionOutput]):
    """`max_batch_pixels`: of all pictures of a step together; one picture may have as many."""

    def __init__(
        self,
        painter: Painter,
        *,
        max_batch_size: int,
        max_batch_pixels: int,
        max_num_waiting: int,
        memory: Memory | None = None,
    ) -> None:
        self._painter = painter
        self._max_batch_size = max_batch_size
        self._max_batch_pixels = max_batch_pixels
        self._max_num_waiting = max_num_waiting
        self._memory = memory
        self._calls: dict[str, _Call] = {}
        self._line = WaitingLine()
        self._begun: list[_Begun] = []
        """All of one shape."""
        self._step_s = 0.0

    def add(self, request: DrawRequest) -> None:
        self._check_room(request)
        self._calls[request.request_id] = _Call(request)
        for index in range(len(request.seeds)):
            self._line.append(Waiting(request, index))

    def abort(self, request_id: str, index: int | None = None) -> None:
        """A request has no choices that could be given up alone."""
        call = self._calls.pop(request_id, None)
        if call is not None:
            self._line.remove(call.request)
            self._begun = [picture for picture in self._begun if picture.request is not call.request]
            self._release_if_idle()

    def has_work(self) -> bool:
        return bool(self._calls)

    def step(self) -> list[DiffusionOutput]:
        self._fill()
        for picture in self._begun:
            if picture.is_painted:
                return self._finish(picture)
        for picture in self._begun:
            if picture.painting is None:
                return self._begin(picture)
        return self._advance()

    def stats(self) -> EngineStats:
        return EngineStats(
            num_running=len(self._begun),
            num_waiting=len(self._line),
            num_free_blocks=0,
            num_blocks=0,
            step_s=self._step_s,
        )

    def sleep(self) -> int:
        assert not self._calls, "there are requests"
        return self._memory.sleep() if self._memory is not None else 0

    def wake(self) -> dict[str, float]:
        return self._memory.wake() if self._memory is not None else {}

    def _release_if_idle(self) -> None:
        if not self._calls:
            self._painter.release()

    # ---- what waits

    def _check_room(self, request: DrawRequest) -> None:
        waiting = [call.request for call in self._calls.values() if call.num_left]
        own = sum(other.tenant == request.tenant for other in waiting)
        if own and own >= max(1, self._max_num_waiting // 2):
            raise RequestRefused(FailureCode.RATE_LIMITED, "too many requests of this account wait for pictures")
        num_bytes = sum(other.num_bytes for other in waiting)
        if len(waiting) >= self._max_num_waiting or (waiting and num_bytes + request.num_bytes > WAITING_BYTES_MAX):
            raise RequestRefused(FailureCode.OVERLOADED, "too many requests wait for pictures")

    def _fill(self) -> None:
        """Give free places to those whose turn it is."""
        while True:
            key = self._begun[0].request.batch_key if self._begun else None
            if key is not None and len(self._begun) >= self._num_places(key):
                return
            waiting = self._line.take(key)
            if waiting is None:
                return
            self._begun.append(_Begun(waiting))

    def _num_places(self, key: BatchKey) -> int:
        fitting = max(1, self._max_batch_pixels // (key.width * key.height))
        return min(self._max_batch_size, fitting)

    # ---- the three kinds of steps

    def _begin(self, picture: _Begun) -> list[DiffusionOutput]:
        try:
            picture.painting = self._painter.begin(picture.request, picture.request.seeds[picture.index])
        except Exception as error:
            return self._fail(picture.request, error)
        self._calls[picture.request.request_id].num_steps = picture.painting.num_steps
        return []

    def _advance(self) -> list[DiffusionOutput]:
        """What the forward pass raises goes through, for the device is broken: but not for want of memory."""
        began_at = perf_counter()
        try:
            predictions = self._painter.predict([picture.painting for picture in self._begun])
        except torch.OutOfMemoryError as error:
            return self._make_room(error)
        outputs: list[DiffusionOutput] = []
        advanced: dict[str, DrawRequest] = {}
        for picture, prediction in zip(self._begun.copy(), predictions, strict=True):
            request = picture.request
            if request.request_id not in self._calls:
                continue  # another picture of it has failed in this very loop
            try:
                self._painter.advance(picture.painting, prediction)
            except Exception as error:
                advanced.pop(request.request_id, None)
                outputs += self._fail(request, error)
                continue
            self._calls[request.request_id].num_steps_done += 1
            advanced[request.request_id] = request
        step_s = perf_counter() - began_at
        self._step_s += STEP_WEIGHT * (step_s - self._step_s) if self._step_s else step_s
        return outputs + self._progress(advanced.values())

    def _finish(self, picture: _Begun) -> list[DiffusionOutput]:
        request = picture.request
        try:
            painted = self._painter.finish(picture.painting)
        except Exception as error:
            return self._fail(request, error)
        self._begun.remove(picture)
        call = self._calls[request.request_id]
        call.num_left -= 1
        if not call.num_left:
            del self._calls[request.request_id]
            self._release_if_idle()
        return [
            Finished(
                request_id=request.request_id,
                index=picture.index,
                pixels=painted.pixels,
                is_filtered=painted.is_filtered,
                is_last=not call.num_left,
            )
        ]

    def _progress(self, requests: Iterable[DrawRequest]) -> list[DiffusionOutput]:
        outputs: list[DiffusionOutput] = []
        for request in requests:
            call = self._calls[request.request_id]
            if request.reports_progress:
                num_steps = call.num_steps * len(request.seeds)
                outputs.append(Progressed(request.request_id, call.num_steps_done, num_steps))
        return outputs

    def _make_room(self, error: torch.OutOfMemoryError) -> list[DiffusionOutput]:
        """Of several the younger half begins again later; one alone will never fit."""
        torch.cuda.empty_cache()
        if len(self._begun) == 1:
            return self._fail(self._begun[0].request, error)
        num_kept = len(self._begun) // 2
        self._max_batch_pixels = num_kept * self._begun[0].request.num_pixels
        logger.warning("the device's memory is too little: from now on %d pixels in a step", self._max_batch_pixels)
        self._begun, given_up = self._begun[:num_kept], self._begun[num_kept:]
        for picture in given_up:
            done = 0 if picture.painting is None else picture.painting.num_steps_done
            self._calls[picture.request.request_id].num_steps_done -= done
            self._line.append(Waiting(picture.request, picture.index))
        return []

    def _fail(self, request: DrawRequest, error: Exception) -> list[DiffusionOutput]:
        if isinstance(error, torch.AcceleratorError):
            raise error  # the device itself is broken, for everybody
        is_out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        logger.error("request %s failed", request.request_id, exc_info=error)
        self.abort(request.request_id)
        if is_out_of_memory:
            torch.cuda.empty_cache()
        return [Failure(request.request_id, is_out_of_memory)]
