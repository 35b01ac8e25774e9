"""Which adapters this worker has, by the daemon's names for them; read from disk by a thread of its own.

A request takes its adapter along, so one that is unloaded, or replaced under its name, serves the requests that have
it to their end. Until then it counts: never are there more adapters in memory than places were set aside for.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol
from weakref import WeakSet

import torch

from runtime.engine import LoadRefused, Postponed, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import LoadAdapter

logger = logging.getLogger(__name__)


class Adapter(Protocol):
    """Whatever the engine makes of an addon's files."""

    @property
    def file_sha256(self) -> Mapping[str, str]: ...


ReadAdapter = Callable[[LoadAdapter], Adapter]
"""Raises LoadRefused."""


class _Job:
    """One load that was asked for."""

    def __init__(self, load: LoadAdapter) -> None:
        self.load = load
        self.done: Future[None] = Future()
        self.is_wanted = True
        """Until it is unloaded again; guarded by the shelf's lock."""


class AdapterShelf:
    """For the socket thread."""

    def __init__(self, read: ReadAdapter, num_places: int) -> None:
        self._read = read
        self._num_places = num_places
        self._lock = threading.Lock()
        """Over all that follows."""
        self._ready: dict[str, Adapter] = {}
        self._alive: WeakSet[Adapter] = WeakSet()
        self._loading: list[_Job] = []
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def find(self, name: str) -> Any:
        """As `read` made it. Raises Postponed while it is being loaded, RequestRefused when nobody asked for it."""
        with self._lock:
            if name in self._ready:
                return self._ready[name]
            for job in self._loading:
                if job.is_wanted and job.load.adapter == name:
                    raise Postponed(job.done)
        raise RequestRefused(FailureCode.NOT_FOUND, "the addon is not loaded here", "model")

    def load(self, load: LoadAdapter) -> Future[None]:
        """Begin; the future ends with nothing, or with LoadRefused. Loads end in the order in which they began."""
        job = _Job(load)
        with self._lock:
            self._loading.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="adapters", daemon=True)
                self._thread.start()
        self._jobs.put(job)
        return job.done

    def unload(self, name: str) -> None:
        """Take it off; a load of it that has not ended fails."""
        with self._lock:
            self._ready.pop(name, None)
            for job in self._loading:
                if job.load.adapter == name:
                    job.is_wanted = False

    def close(self) -> None:
        """The thread ends by itself, after what it is at."""
        self._jobs.put(None)

    # ---- the thread

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            failure = self._try(job)
            with self._lock:
                self._loading.remove(job)
            if failure is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(failure)

    def _try(self, job: _Job) -> LoadRefused | None:
        try:
            self._load(job)
        except LoadRefused as refusal:
            # Without the frames it came through, which hold what was read.
            return refusal.with_traceback(None)
        except (MemoryError, torch.OutOfMemoryError):
            return LoadRefused("there is no memory left for this addon", FailureCode.OVERLOADED)
        except Exception as error:
            # One addon's files must never end the thread that loads all others.
            logger.exception("loading an addon failed")
            return LoadRefused(f"{type(error).__name__} while loading", FailureCode.INTERNAL)
        return None

    def _load(self, job: _Job) -> None:
        with self._lock:
            ready = self._ready.get(job.load.adapter)
            if ready is not None and ready.file_sha256 == job.load.file_sha256:
                return
            num_ready, num_alive = len(self._ready), len(self._alive)
        if num_alive >= self._num_places:
            raise LoadRefused(_describe_lack(self._num_places, num_ready), FailureCode.OVERLOADED)
        adapter = self._read(job.load)
        with self._lock:
            if not job.is_wanted:
                raise LoadRefused("the addon was unloaded before it was there", FailureCode.NOT_FOUND)
            self._ready[job.load.adapter] = adapter
            self._alive.add(adapter)


def no_adapters() -> AdapterShelf:
    """Of a worker without memory for any: a load is refused before anything is read."""

    def read(load: LoadAdapter) -> Adapter:
        raise AssertionError("there is no place")

    return AdapterShelf(read, 0)


def _describe_lack(num_places: int, num_ready: int) -> str:
    if not num_places:
        return "this worker was started without memory for addons"
    if num_ready < num_places:
        return f"requests still use addons that were unloaded, and there is room for {num_places} in all"
    return f"{num_places} addons are loaded, and there is room for no more"
