"""One tiny multilingual model for all tests of this package, and faster-whisper over the same folder as the oracle."""

from pathlib import Path

import pytest
from faster_whisper import BatchedInferencePipeline, WhisperModel

from runtime.whisper.hearing import Hearing
from runtime.whisper.speech_text import SpeechText
from tests.fakes.tiny_whisper import build_tiny_whisper


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="session")
def whisper_model(tiny_whisper: Path) -> WhisperModel:
    return WhisperModel(str(tiny_whisper), device="cpu", compute_type="float32", cpu_threads=1, local_files_only=True)


@pytest.fixture(scope="session")
def oracle(whisper_model: WhisperModel) -> BatchedInferencePipeline:
    return BatchedInferencePipeline(whisper_model)


@pytest.fixture(scope="session")
def speech_text(whisper_model: WhisperModel) -> SpeechText:
    return SpeechText(whisper_model.hf_tokenizer, whisper_model.supported_languages, is_multilingual=True)


@pytest.fixture(scope="session")
def hearing(whisper_model: WhisperModel, speech_text: SpeechText) -> Hearing:
    return Hearing(whisper_model, speech_text)
