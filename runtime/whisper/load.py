"""From a `Load` message to an engine that listens: the wiring of this package, in order.

Owns every reason why a model is not taken up on this device. After it returns the model has heard a window, and how
long that takes is known.
"""

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from models.fixed_sizing import fixed_replica_bytes
from models.whisper_folder import inspect_whisper
from runtime.engine import LoadedEngine, LoadRefused, ReportProgress
from runtime.imported_files import inspect_imported
from runtime.memory import resident_bytes
from runtime.message import FailureCode
from runtime.protocol import Load, Loaded
from runtime.settings import WhisperSettings
from runtime.stages import Stages
from runtime.tasks.speech import Listening
from runtime.whisper.engine import WhisperEngine
from runtime.whisper.frontend import WhisperFrontend
from runtime.whisper.hearing import Hearing, LastSpeech
from runtime.whisper.speech_text import MAX_NUM_TOKENS, SpeechText
from runtime.whisper.uploads import Uploads
from runtime.whisper.windows import SAMPLE_RATE, Window

TOKENIZER = "tokenizer.json"


def load_whisper(load: Load, report: ReportProgress) -> LoadedEngine:
    """Raises LoadRefused when this model cannot be served here with these settings."""
    settings, directory = load.settings, Path(load.model_dir)
    assert isinstance(settings, WhisperSettings), "load_engine chose by them"
    stages = Stages(report)
    stages.begin("inspection", 0.0)
    estimated_bytes = _inspect(directory, load.file_sha256, settings)
    uploads = Uploads(max_bytes=settings.max_audio_bytes, max_s=settings.max_audio_s)  # its children begin meanwhile
    with ExitStack() as undo:
        undo.callback(uploads.close)
        stages.begin("weights", 0.1)
        model = _load_model(directory, settings)
        text = SpeechText(
            model.hf_tokenizer, model.supported_languages, is_multilingual=bool(model.model.is_multilingual)
        )
        hearing = Hearing(model, text)
        stages.begin("warm-up", 0.8)
        window_s = _warm_up(hearing)
        undo.pop_all()
    engine = WhisperEngine(
        hearing,
        ModelWeights(model.model, is_on_host=settings.device == "cpu"),
        max_batch_size=settings.max_batch_size,
        max_num_waiting=settings.max_num_waiting,
        window_s=window_s,
    )
    # What CTranslate2 holds of a device cannot be asked for: there the estimate stands, which is an upper bound.
    footprint = resident_bytes() if settings.device == "cpu" else estimated_bytes
    loaded = Loaded(footprint_bytes=footprint, max_context_length=MAX_NUM_TOKENS, load_ms=stages.finish())
    return LoadedEngine(engine, WhisperFrontend(text, uploads, float(model.feature_extractor.chunk_length)), loaded)


class ModelWeights:
    """Of CTranslate2's model: on its device, or kept by the host."""

    def __init__(self, model: Any, *, is_on_host: bool) -> None:
        self._model = model
        self._is_on_host = is_on_host

    def sleep(self) -> int:
        if not self._is_on_host:
            self._model.unload_model(to_cpu=True)
        return resident_bytes()

    def wake(self) -> dict[str, float]:
        if self._is_on_host:
            return {}
        began_at = perf_counter()
        self._model.load_model()
        return {"weights": (perf_counter() - began_at) * 1000}


def _inspect(directory: Path, file_sha256: dict[str, str], settings: WhisperSettings) -> int:
    """Returns what a replica takes."""
    info = inspect_imported(inspect_whisper, directory, file_sha256, may_list_more=True)
    if TOKENIZER not in info.file_sha256:
        raise LoadRefused(f"there is no {TOKENIZER}: without it no text can be made of tokens")
    dtype = settings.compute_type.rpartition("_")[0] or settings.compute_type
    needed = fixed_replica_bytes(
        info, dtype, batch_size=settings.max_batch_size, is_cuda=settings.device.startswith("cuda")
    )
    if needed > settings.memory_budget_bytes:
        message = f"{settings.memory_budget_bytes} bytes do not hold the model and a step of it, which take {needed}"
        raise LoadRefused(message, FailureCode.OVERLOADED)
    return needed


def _load_model(directory: Path, settings: WhisperSettings) -> Any:
    device, _, index = settings.device.partition(":")
    supported = _supported_compute_types(device, int(index or 0))
    if settings.compute_type not in supported:
        message = f"{settings.device} does not compute {settings.compute_type}; it knows {', '.join(sorted(supported))}"
        raise LoadRefused(message)
    try:
        model: Any = WhisperModel(
            str(directory),
            device=device,
            device_index=int(index or 0),
            compute_type=settings.compute_type,
            cpu_threads=settings.num_threads,
            local_files_only=True,
        )
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise LoadRefused(
                "the device ran out of memory while the weights were loaded", FailureCode.OVERLOADED
            ) from error
        raise LoadRefused(f"CTranslate2 cannot load it: {error}") from error
    model.hf_tokenizer.encode_special_tokens = True  # what a client writes is text, whatever it looks like
    return model


def _supported_compute_types(device: str, index: int) -> set[str]:
    try:
        return set(ctranslate2.get_supported_compute_types(device, index))
    except (RuntimeError, ValueError) as error:
        raise LoadRefused(f"this worker cannot use {device}:{index}: {error}") from error


def _warm_up(hearing: Hearing) -> float:
    """Seconds that a window takes alone, the second time."""
    noise = np.random.default_rng(0).normal(0, 0.05, 2 * SAMPLE_RATE).astype(np.float32)
    window = Window(noise, 0.0, Listening(has_words=True), [], language="en")
    took_s = 0.0
    for _ in range(2):
        began_at = perf_counter()
        hearing.hear([window], LastSpeech(["warm-up"], {}))
        took_s = perf_counter() - began_at
    return took_s
