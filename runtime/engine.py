"""What an engine is, as `worker.py` sees it, and which class answers to which `Load.settings`.

A worker has two threads. The main thread owns the device and drives an `Engine` step by step; the socket thread
owns a `Frontend`, which turns tasks into engine requests and step outputs back into messages.
Nothing is shared between the two but the two queues in `worker.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, assert_never

from msgspec import structs

from runtime.message import FailureCode
from runtime.protocol import AnyFollowUp, AnyPiece, AnyTask, Delta, Failed, Load, LoadAdapter, Loaded
from runtime.settings import DiffusionSettings, EmbeddingSettings, LlmSettings, WhisperSettings

RequestT = TypeVar("RequestT")
OutputT = TypeVar("OutputT")
TaskT = TypeVar("TaskT", bound=AnyTask)
ReportProgress = Callable[[str, float], None]
"""Called with stage and overall fraction while loading."""


class RequestRefused(Exception):
    """A request this engine cannot serve; ends that request only."""

    def __init__(
        self, code: FailureCode, message: str, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class Postponed(Exception):
    """A request that waits for work done elsewhere: prepare it again when `ready` is done."""

    def __init__(self, ready: Future[Any]) -> None:
        super().__init__("not ready yet")
        self.ready = ready


class EngineStats(NamedTuple):
    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    num_prompt_tokens: int = 0
    """Since the load, of requests that were admitted; so are the others."""
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    step_s: float = 0.0
    """One step of the model, on average of late."""
    cache_kept_s: float = 0.0
    """How long contents of the prefix cache are kept unused of late; 0: nothing was forgotten yet."""


class Memory(Protocol):
    """Device memory that is given back while an engine sleeps; `device_memory.py` for those in torch."""

    def sleep(self) -> int:
        """Returns what this process still holds of the host's memory."""

    def wake(self) -> dict[str, float]:
        """Returns milliseconds by stage."""


class Engine(ABC, Generic[RequestT, OutputT]):
    """Driven by the main thread only. An exception out of `step` means the device is broken: the worker ends."""

    @abstractmethod
    def add(self, request: RequestT) -> None:
        """Queue a request; raises RequestRefused when there is no room for it."""

    def feed(self, request_id: str, item: Any) -> None:
        """What `Frontend.follow_up` made of a later part of a request; unknown ids are ignored."""
        raise NotImplementedError(f"{type(self).__name__} takes a request whole")

    @abstractmethod
    def abort(self, request_id: str, index: int | None = None) -> None:
        """Free all that a request, or one choice of it, holds, before the next step; unknown ids are ignored."""

    @abstractmethod
    def has_work(self) -> bool: ...

    @abstractmethod
    def step(self) -> list[OutputT]:
        """Schedule, run and sample once."""

    def rest(self) -> bool:
        """There is nothing to do: for some milliseconds do what makes later steps faster; whether more is left."""
        return False

    @abstractmethod
    def stats(self) -> EngineStats: ...

    @abstractmethod
    def sleep(self) -> int:
        """Give the device's memory back and keep the weights in host memory; only while there is no work.

        Returns what this process still holds of the host's memory.
        """

    @abstractmethod
    def wake(self) -> dict[str, float]:
        """Take the device's memory again; returns milliseconds by stage. Serves as if it had not slept."""


class Rendered(NamedTuple):
    """What the socket thread sends, and what it ended itself (a stop string was found)."""

    deltas: list[Delta]
    failures: list[Failed]
    finished: list[tuple[str, int]]
    """Request id and choice, to be aborted in the engine."""
    pieces: Sequence[AnyPiece] = ()
    """Of engines whose answers are no deltas."""


class Frontend(ABC, Generic[TaskT, RequestT, OutputT]):
    """Driven by the socket thread only."""

    task_types: ClassVar[tuple[type[AnyTask], ...]]
    """What it can be asked; everything else is refused before it gets here."""

    @abstractmethod
    def prepare(self, task: TaskT) -> RequestT:
        """Template, tokenise, validate; raises RequestRefused, or Postponed: it is called again when that is ready."""

    def follow_up(self, message: AnyFollowUp) -> Any:
        """What the engine is to be fed of a later part of a request; None: nothing.

        It may come before the request is prepared, and after it has ended. Raises RequestRefused.
        """
        return None

    @abstractmethod
    def render(self, outputs: list[OutputT]) -> Rendered:
        """Detokenise one step's outputs; outputs of forgotten requests are dropped."""

    @abstractmethod
    def forget(self, request_id: str) -> None:
        """The client left; unknown ids are ignored."""

    @abstractmethod
    def load_adapter(self, load: LoadAdapter) -> Future[None]:
        """Begin to make an addon ready, beside everything else; the future ends with nothing, or with LoadRefused."""

    @abstractmethod
    def unload_adapter(self, adapter: str) -> None:
        """Requests that name it finish, later ones are refused; an unknown one is ignored."""

    @abstractmethod
    def close(self) -> None: ...


class LoadedEngine(NamedTuple):
    """The pair agrees on its request and output types; `worker.py` only carries them."""

    engine: Engine[Any, Any]
    frontend: Frontend[Any, Any, Any]
    loaded: Loaded

    def with_earlier(self, stages_ms: dict[str, float]) -> "LoadedEngine":
        """Stages that lay ahead of those that the engine knows of."""
        return self._replace(loaded=structs.replace(self.loaded, load_ms=stages_ms | self.loaded.load_ms))


class LoadRefused(Exception):
    """The model, or an addon to it, cannot be served here; the message says why and is shown to the operator."""

    def __init__(self, message: str, code: FailureCode = FailureCode.INVALID) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def load_engine(load: Load, report: ReportProgress) -> LoadedEngine:
    """Import and load the engine of this kind; raises LoadRefused."""
    began_at = perf_counter()
    report("imports", 0.0)
    load_it = _import_engine(load)
    imports_ms = (perf_counter() - began_at) * 1000
    loaded = load_it(load, report)
    return loaded.with_earlier({"imports": imports_ms})


def _import_engine(load: Load) -> Callable[[Load, ReportProgress], LoadedEngine]:
    """A worker imports only the engine it becomes."""
    match load.settings:
        case LlmSettings():
            from runtime.llm.load import load_llm

            return load_llm
        case EmbeddingSettings():
            from runtime.embedding.load import load_embedding

            return load_embedding
        case WhisperSettings():
            from runtime.whisper.load import load_whisper

            return load_whisper
        case DiffusionSettings():
            from runtime.diffusion.load import load_diffusion

            return load_diffusion
    assert_never(load.settings)
