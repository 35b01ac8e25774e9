"""A worker that listens, without its process, threads and socket: what `runtime/worker.py` does, step by step."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from models.whisper_folder import inspect_whisper
from runtime.engine import LoadedEngine, Postponed, RequestRefused
from runtime.protocol import AnyFollowUp, AnyPiece, AnyTask, Failed, Load
from runtime.settings import WhisperSettings
from runtime.tasks.speech import AudioChunk
from runtime.whisper.load import load_whisper

GIB = 2**30

Answers = dict[str, list[AnyPiece | Failed]]
Postponements = dict[str, tuple[AnyTask, Future[Any]]]


def load_message(directory: Path, **settings: Any) -> Load:
    given = {"device": "cpu", "memory_budget_bytes": GIB, "compute_type": "float32", **settings}
    made = WhisperSettings(**given)
    return Load(model_dir=str(directory), file_sha256=inspect_whisper(directory).file_sha256, settings=made)


def chunks_of(request_id: str, data: bytes, size: int = 256 * 1024) -> list[AudioChunk]:
    parts = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    return [
        AudioChunk(request_id=request_id, data=part, is_last=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]


class TinyListener:
    def __init__(self, directory: Path, **settings: Any) -> None:
        self.loaded: LoadedEngine = load_whisper(load_message(directory, **settings), lambda stage, fraction: None)

    def close(self) -> None:
        self.loaded.frontend.close()

    def ask(self, task: AnyTask, follow_ups: Sequence[AnyFollowUp] = ()) -> list[AnyPiece | Failed]:
        """All that is answered to one request."""
        return self.ask_all([(task, follow_ups)])[task.request_id]

    def ask_all(self, requests: Sequence[tuple[AnyTask, Sequence[AnyFollowUp]]]) -> Answers:
        """The same for requests that come together; their follow-ups come one of each in turn."""
        answers: Answers = {task.request_id: [] for task, _ in requests}
        postponed: Postponements = {}
        for task, follow_ups in requests:
            self._prepare(task, answers, postponed)
            for follow_up in follow_ups:
                self._follow_up(follow_up, answers)
        while postponed or self.loaded.engine.has_work():
            if not self.loaded.engine.has_work():
                wait([future for _, future in postponed.values()], timeout=30, return_when="FIRST_COMPLETED")
            for request_id in [known for known, (_, future) in postponed.items() if future.done()]:
                task, _ = postponed.pop(request_id)
                self._prepare(task, answers, postponed)
            for output in self._outputs():
                answers[output.request_id].append(output)
        return answers

    def _prepare(self, task: AnyTask, answers: Answers, postponed: Postponements) -> None:
        try:
            self.loaded.engine.add(self.loaded.frontend.prepare(task))
        except Postponed as reason:
            postponed[task.request_id] = task, reason.ready
        except RequestRefused as refusal:
            answers[task.request_id].append(failed(task.request_id, refusal))

    def _follow_up(self, message: AnyFollowUp, answers: Answers) -> None:
        try:
            item = self.loaded.frontend.follow_up(message)
        except RequestRefused as refusal:
            self.loaded.frontend.forget(message.request_id)
            answers[message.request_id].append(failed(message.request_id, refusal))
        else:
            if item is not None:
                self.loaded.engine.feed(message.request_id, item)

    def _outputs(self) -> Iterator[AnyPiece | Failed]:
        if self.loaded.engine.has_work():
            rendered = self.loaded.frontend.render(self.loaded.engine.step())
            yield from rendered.pieces
            yield from rendered.failures


def failed(request_id: str, refusal: RequestRefused) -> Failed:
    return Failed(request_id=request_id, code=refusal.code, message=refusal.message, param=refusal.param)
