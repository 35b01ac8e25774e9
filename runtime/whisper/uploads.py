"""Sound files on their way in: collected in memory that is no process's own, then decoded and searched for speech.

Decoding is a child's work (`decoding.py`); waiting for it, and the search, are a thread's of which there are two, so
that one long file does not hold up the short ones. Everything here has a bound: bytes that were announced, seconds
that are held. Called by the socket thread, except where it is said.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from runtime.engine import RequestRefused
from runtime.memory import return_freed_memory
from runtime.message import FailureCode
from runtime.tasks.speech import AudioChunk, Preprocessing
from runtime.whisper.decoding import SoundDecoder, SoundRefused, Unwanted
from runtime.whisper.voice import Clip, Stretch, find_speech, pack
from runtime.whisper.windows import SAMPLE_RATE, WINDOW_S

NUM_THREADS = 2
_FILES_HELD = 2
"""So many files of the greatest size, and of the greatest length, may be here at the same time."""
_LONG_S = 600
"""From here on the search leaves so much freed memory behind that giving it back is worth its milliseconds."""


class Recording(NamedTuple):
    """A file as it can be listened to."""

    samples: NDArray[np.int16]
    clips: list[Clip]


class Treatment(NamedTuple):
    """What is to be done to a file."""

    preprocessing: Preprocessing
    cuts_by_voice: bool
    max_clip_s: float


class Upload:
    """One file."""

    def __init__(self, num_bytes: int, treatment: Treatment) -> None:
        self.num_bytes = num_bytes
        self.treatment = treatment
        self.ready: Future[Recording] = Future()
        """Ends with RequestRefused where the file cannot be listened to."""
        self.is_wanted = True
        self.held_s = 0.0
        self._descriptor = os.memfd_create("sound", os.MFD_CLOEXEC)
        self._num_received = 0
        self._lock = threading.Lock()
        """Over the descriptor, which a thread may be reading from when nobody wants the file any more."""

    def receive(self, data: bytes) -> int:
        """Returns how many bytes are missing."""
        self._num_received += len(data)
        if self._num_received > self.num_bytes:
            _refuse("file: more bytes came than were announced")
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        return self.num_bytes - self._num_received

    def read(self, use: Callable[[int], NDArray[np.int16]]) -> NDArray[np.int16]:
        with self._lock:
            if self._descriptor < 0:
                raise Unwanted
            return use(self._descriptor)

    def close(self) -> None:
        """Waits for who reads."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


class Uploads:
    """By request id. `max_bytes`, `max_s`: of one file."""

    def __init__(self, *, max_bytes: int, max_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._uploads: dict[str, Upload] = {}
        self._own = threading.local()
        self._decoders: list[SoundDecoder] = []
        self._threads = ThreadPoolExecutor(NUM_THREADS, "uploads", initializer=self._start_decoder)
        for _ in range(NUM_THREADS):
            self._threads.submit(threading.get_ident)  # each begins a thread, and it its decoder: before the first file

    def begin(self, request_id: str, num_bytes: int, treatment: Treatment) -> Upload:
        """Raises RequestRefused when there is no room for it."""
        if num_bytes < 1:
            _refuse("file: it is empty")
        if num_bytes > self._max_bytes:
            raise RequestRefused(FailureCode.TOO_LARGE, f"file: more than {self._max_bytes} bytes", "file")
        held_bytes = sum(upload.num_bytes for upload in self._uploads.values())
        held_s = sum(upload.held_s for upload in self._uploads.values())
        if held_bytes + num_bytes > _FILES_HELD * self._max_bytes or held_s > _FILES_HELD * self._max_s:
            raise RequestRefused(FailureCode.OVERLOADED, "too much sound is waiting for this model")
        upload = self._uploads[request_id] = Upload(num_bytes, treatment)
        return upload

    def find(self, request_id: str) -> Upload | None:
        return self._uploads.get(request_id)

    def receive(self, chunk: AudioChunk) -> None:
        """Of unknown requests it is ignored."""
        upload = self._uploads.get(chunk.request_id)
        if upload is None or upload.ready.done():
            return
        num_missing = upload.receive(chunk.data)
        if chunk.is_last:
            if num_missing:
                _refuse(f"file: {num_missing} bytes of it did not come")
            self._threads.submit(self._make_ready, upload)

    def forget(self, request_id: str) -> None:
        """Unknown ones are ignored."""
        upload = self._uploads.pop(request_id, None)
        if upload is None:
            return
        upload.is_wanted = False
        if upload.ready.done() or not upload.ready.running():
            upload.close()

    def close(self) -> None:
        for request_id in list(self._uploads):
            self.forget(request_id)
        self._threads.shutdown(wait=True, cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()

    # ---- a thread of ours

    def _start_decoder(self) -> None:
        # A child ends with the thread that started it, so each thread has its own.
        self._own.decoder = SoundDecoder()
        self._own.decoder.start()
        self._decoders.append(self._own.decoder)

    def _make_ready(self, upload: Upload) -> None:
        upload.ready.set_running_or_notify_cancel()
        try:
            recording = self._recording(upload)
        except RequestRefused as refusal:
            upload.ready.set_exception(refusal)
        except Unwanted:
            upload.ready.set_exception(RequestRefused(FailureCode.INVALID, "file: it is not wanted any more"))
        except SoundRefused as refusal:
            upload.ready.set_exception(RequestRefused(FailureCode.INVALID, f"file: it {refusal}", "file"))
        else:
            upload.held_s = len(recording.samples) / SAMPLE_RATE
            if upload.held_s >= _LONG_S:
                return_freed_memory()
            upload.ready.set_result(recording)
        finally:
            upload.close()

    def _recording(self, upload: Upload) -> Recording:
        treatment = upload.treatment

        def decode(descriptor: int) -> NDArray[np.int16]:
            decoder: SoundDecoder = self._own.decoder
            return decoder.decode(descriptor, treatment.preprocessing, self._max_s, lambda: upload.is_wanted)

        samples = upload.read(decode)
        if not treatment.cuts_by_voice:
            if len(samples) >= WINDOW_S * SAMPLE_RATE:
                _refuse(f"skip_vad: the file must be shorter than {WINDOW_S:g} s", "skip_vad")
            return Recording(samples, [Clip([Stretch(0, len(samples))], 0)])
        return Recording(samples, pack(find_speech(samples, treatment.max_clip_s), treatment.max_clip_s))


def _refuse(message: str, param: str = "file") -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, message, param)
