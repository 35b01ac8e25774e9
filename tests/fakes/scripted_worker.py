"""runtime/worker.py around an engine that counts: a request for text "N" gets N tokens, one a step.

Started as `python -m tests.fakes.scripted_worker SOCKET`. "N!" is ended by the frontend at 13, as by a stop string;
"N*S" has tokens of S characters. "later N" waits until "release N" has come, and is released by another thread.
Other prompts make a part fail: `refuse` and `break` the frontend, `full` the engine's queue, `explode` its step.
It listens, too: what it heard is told as a trace of the same text, and the same words are refused.
"""

import sys
import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

from runtime.engine import (
    Engine,
    EngineStats,
    Frontend,
    LoadedEngine,
    LoadRefused,
    Postponed,
    Rendered,
    ReportProgress,
    RequestRefused,
)
from runtime.message import FailureCode
from runtime.protocol import AnyFollowUp, Delta, Load, LoadAdapter, Loaded, Submit, Usage
from runtime.submission import TextPrompt
from runtime.tasks.speech import AudioChunk, Listen, Traced
from runtime.worker import run_worker


class CountRequest(NamedTuple):
    request_id: str
    text: str


class ListenRequest(NamedTuple):
    request_id: str


class Count(NamedTuple):
    request_id: str
    number: int
    is_last: bool


class Overheard(NamedTuple):
    request_id: str
    text: str
    is_last: bool


class CountingEngine(Engine[CountRequest | ListenRequest, Count | Overheard]):
    def __init__(self) -> None:
        self._overheard: list[Overheard] = []
        self._left: dict[str, int] = {}
        self._given: dict[str, int] = {}
        self._explodes = False

    def add(self, request: CountRequest | ListenRequest) -> None:
        if isinstance(request, ListenRequest):
            return
        if request.text == "full":
            raise RequestRefused(FailureCode.OVERLOADED, "no room", retry_after_s=3.0)
        self._explodes = self._explodes or request.text == "explode"
        self._left[request.request_id] = 1 if self._explodes else int(request.text.rstrip("!").partition("*")[0])
        self._given[request.request_id] = 0

    def feed(self, request_id: str, item: Overheard) -> None:
        self._overheard.append(item)

    def abort(self, request_id: str, index: int | None = None) -> None:
        self._left.pop(request_id, None)

    def has_work(self) -> bool:
        return bool(self._left or self._overheard)

    def step(self) -> list[Count | Overheard]:
        if self._explodes:
            raise RuntimeError("the device is broken")
        time.sleep(0.0005)  # a model computes
        outputs: list[Count | Overheard] = [*self._overheard]
        self._overheard.clear()
        for request_id in list(self._left):
            self._given[request_id] += 1
            self._left[request_id] -= 1
            is_last = self._left[request_id] == 0
            outputs.append(Count(request_id, self._given[request_id], is_last))
            if is_last:
                del self._left[request_id]
        return outputs

    def stats(self) -> EngineStats:
        return EngineStats(num_running=len(self._left), num_waiting=0, num_free_blocks=7, num_blocks=9)

    def sleep(self) -> int:
        return 1234

    def wake(self) -> dict[str, float]:
        return {"weights": 1.5}


class CountingFrontend(Frontend[Submit | Listen, CountRequest | ListenRequest, Count | Overheard]):
    task_types = (Submit, Listen)

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        """Prompts of unfinished requests."""
        self._num_choices: dict[str, int] = {}
        """Of any request; all say the same."""
        self._released: Future[None] = Future()
        self._adapters: set[str] = set()

    def prepare(self, task: Submit | Listen) -> CountRequest | ListenRequest:
        return ListenRequest(task.request_id) if isinstance(task, Listen) else self._prepare(task)

    def follow_up(self, message: AnyFollowUp) -> Overheard | None:
        match message:
            case AudioChunk(data=b"refuse"):
                raise RequestRefused(FailureCode.INVALID, "that sound is refused", "file")
            case AudioChunk(data=b"break"):
                raise ZeroDivisionError
            case AudioChunk(data=data, is_last=is_last) if data:
                return Overheard(message.request_id, data.decode(), is_last)
        return None

    def _prepare(self, submit: Submit) -> CountRequest:
        assert isinstance(submit.prompt, TextPrompt)
        if submit.adapter and submit.adapter not in self._adapters:
            raise RequestRefused(FailureCode.NOT_FOUND, "no such addon", "model")
        text = submit.prompt.text
        if text == "refuse":
            raise RequestRefused(FailureCode.INVALID, "that text is refused", "prompt")
        if text == "break":
            raise ZeroDivisionError
        if text.startswith("later ") and not self._released.done():
            raise Postponed(self._released)
        if text.startswith("release "):
            threading.Thread(target=self._released.set_result, args=[None]).start()
        text = text.rpartition(" ")[2]
        self._known[submit.request_id] = text
        self._num_choices[submit.request_id] = submit.num_choices
        return CountRequest(submit.request_id, text)

    def load_adapter(self, load: LoadAdapter) -> Future[None]:
        """By another thread; "bad …" is refused."""
        done: Future[None] = Future()
        refusal = LoadRefused("a bad addon") if load.adapter.startswith("bad ") else None
        finish, outcome = (done.set_exception, refusal) if refusal else (done.set_result, None)
        threading.Thread(target=finish, args=[outcome]).start()
        if refusal is None:
            self._adapters.add(load.adapter)
        return done

    def unload_adapter(self, adapter: str) -> None:
        self._adapters.discard(adapter)

    def render(self, outputs: list[Count | Overheard]) -> Rendered:
        heard = [
            Traced(request_id=output.request_id, trace_id=output.text, is_last=output.is_last)
            for output in outputs
            if isinstance(output, Overheard)
        ]
        rendered = Rendered([], [], [], heard)
        for output in outputs:
            if isinstance(output, Overheard):
                continue
            if output.request_id not in self._known:
                continue
            is_stopped = output.number == 13 and self._known[output.request_id].endswith("!")
            is_last = output.is_last or is_stopped
            usage = Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=output.number)
            rendered.deltas.extend(
                Delta(
                    request_id=output.request_id,
                    index=index,
                    text=f"{output.number} ".ljust(int(self._known[output.request_id].partition("*")[2] or 0)),
                    finish_reason="stop" if is_last else None,
                    usage=usage if is_last else None,
                )
                for index in range(self._num_choices[output.request_id])
            )
            if is_last:
                del self._known[output.request_id]
            if is_stopped:
                rendered.finished.append((output.request_id, 0))
        return rendered

    def forget(self, request_id: str) -> None:
        self._known.pop(request_id, None)

    def close(self) -> None:
        print("frontend closed", file=sys.stderr)


def load_counting(load: Load, report: ReportProgress) -> LoadedEngine:
    match load.model_dir:
        case "refused":
            raise LoadRefused("this model is refused")
        case "broken":
            raise ZeroDivisionError
    report("weights", 0.5)
    loaded = Loaded(footprint_bytes=1, num_blocks=9, block_size=1, max_context_length=99, load_ms={"weights": 1.0})
    return LoadedEngine(CountingEngine(), CountingFrontend(), loaded)


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1], load_counting))
