"""The socket thread's half of a worker that listens: tasks and sound in, pieces of answers out.

A file is a request only when all of it has come and was decoded; until then its task is put off. A conversation is one
at once. What was said wrong is refused here, naming the field.
"""

from concurrent.futures import Future
from typing import NoReturn

from runtime.engine import Frontend, LoadRefused, Postponed, Rendered, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import AnyFollowUp, Failed, LoadAdapter
from runtime.tasks.speech import Align, AudioChunk, Listen, Listening, Transcribe
from runtime.whisper.alignment import CHARACTERS_MAX, AlignSource
from runtime.whisper.engine import WhisperOutput
from runtime.whisper.file_source import FileSource
from runtime.whisper.live import LiveSource
from runtime.whisper.live_sound import Silero
from runtime.whisper.speech_text import SpeechText
from runtime.whisper.uploads import Recording, Treatment, Upload, Uploads
from runtime.whisper.windows import WINDOW_S, Source

MIN_CLIP_S = 1.0
PROMPT_CHARACTERS_MAX = 20_000
"""Of which the model sees the last 223 tokens."""
TEMPERATURES_MAX = 16


class WhisperFrontend(Frontend[Transcribe | Align | Listen, Source, WhisperOutput]):
    task_types = (Transcribe, Align, Listen)

    def __init__(self, text: SpeechText, uploads: Uploads, clip_s: float = WINDOW_S) -> None:
        """`clip_s`: so much the model is best given at once."""
        self._text = text
        self._uploads = uploads
        self._clip_s = clip_s

    def prepare(self, task: Transcribe | Align | Listen) -> Source:
        if task.adapter:
            raise RequestRefused(FailureCode.NOT_FOUND, "the addon is not loaded here", "model")
        if isinstance(task, Listen):
            self._check(task.listening)
            return LiveSource(task, Silero(), self._text.encode, self._clip_s)
        upload = self._uploads.find(task.request_id) or self._begin(task)
        if not upload.ready.done():
            raise Postponed(upload.ready)
        try:
            return self._source(task, upload.ready.result())
        except RequestRefused:
            self._uploads.forget(task.request_id)
            raise

    def follow_up(self, message: AnyFollowUp) -> AnyFollowUp | None:
        """Sound of a file is collected here; what belongs to a conversation is the engine's."""
        if self._uploads.find(message.request_id) is None:
            return message
        if isinstance(message, AudioChunk):
            self._uploads.receive(message)
        return None

    def render(self, outputs: list[WhisperOutput]) -> Rendered:
        failures = [output for output in outputs if isinstance(output, Failed)]
        pieces = [output for output in outputs if not isinstance(output, Failed)]
        for output in outputs:
            if isinstance(output, Failed) or output.is_last:
                self._uploads.forget(output.request_id)
        return Rendered([], failures, [], pieces)

    def forget(self, request_id: str) -> None:
        self._uploads.forget(request_id)

    def load_adapter(self, load: LoadAdapter) -> Future[None]:
        refused: Future[None] = Future()
        refused.set_exception(LoadRefused("Whisper models are served without addons"))
        return refused

    def unload_adapter(self, adapter: str) -> None:
        """None was ever loaded."""

    def close(self) -> None:
        self._uploads.close()

    def _begin(self, task: Transcribe | Align) -> Upload:
        if isinstance(task, Align):
            self._check_language(task.language, is_translated=False)
            _check_text(task.text)
            treatment = Treatment(task.preprocessing, cuts_by_voice=True, max_clip_s=self._clip_s)
        else:
            self._check(task.listening)
            max_clip_s = self._clip_s if task.max_clip_s is None else task.max_clip_s
            if not MIN_CLIP_S <= max_clip_s <= WINDOW_S:
                _refuse("max_clip_len", f"must be between {MIN_CLIP_S:g} and {WINDOW_S:g} seconds")
            treatment = Treatment(task.preprocessing, task.cuts_by_voice, max_clip_s)
        return self._uploads.begin(task.request_id, task.num_bytes, treatment)

    def _source(self, task: Transcribe | Align, recording: Recording) -> Source:
        samples, clips = recording
        if isinstance(task, Transcribe):
            prompt = self._text.encode(task.listening.prompt) if task.listening.prompt else []
            return FileSource(task.request_id, task.tenant, samples, clips, task.listening, prompt)
        return AlignSource(
            task.request_id,
            task.tenant,
            samples,
            clips,
            task.text,
            task.language,
            count_tokens=self._count_tokens,
            max_num_tokens=self._text.max_num_tokens,
        )

    def _count_tokens(self, text: str) -> int:
        return len(self._text.encode(text))

    def _check(self, listening: Listening) -> None:
        self._check_language(listening.language, is_translated=listening.is_translated)
        if len(listening.prompt) > PROMPT_CHARACTERS_MAX:
            _refuse("prompt", f"is longer than {PROMPT_CHARACTERS_MAX} characters")
        if len(listening.temperatures) > TEMPERATURES_MAX or not all(0 <= one <= 2 for one in listening.temperatures):
            _refuse("temperature", f"must be up to {TEMPERATURES_MAX} numbers between 0 and 2")

    def _check_language(self, language: str | None, *, is_translated: bool) -> None:
        if is_translated and not self._text.is_multilingual:
            _refuse("model", "knows English only, and cannot translate into it")
        if language is not None and not self._text.knows(language):
            _refuse("language", f"{language[:20]!r} is none that this model knows")


def _check_text(text: str) -> None:
    if not text.strip():
        _refuse("text", "is empty")
    if len(text) > CHARACTERS_MAX:
        _refuse("text", f"is longer than {CHARACTERS_MAX} characters")


def _refuse(param: str, problem: str) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, f"{param}: {problem}", param)
