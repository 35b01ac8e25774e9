"""The committed speech model: whole, small, and right about voices and speeds that it was never trained on.

What it listens to was made by `python -m scripts.ember_whisper.samples`; no test needs a synthesiser.
"""

import json
import stat
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio

from models.builtin import EMBER_WHISPER
from models.info import WhisperInfo
from models.inspection import inspect_model
from scripts.ember_whisper.evaluation import edit_distance
from scripts.ember_whisper.phrases import VOCABULARY
from scripts.ember_whisper.sound import Sound

SPEECH = Path(__file__).parent / "speech"
SIZE_BYTES_MAX = 12 * 1024 * 1024
WRONG_SHARE_MAX = 0.1


class SaidWord(NamedTuple):
    word: str
    start: float
    end: float


class Recording(NamedTuple):
    name: str
    sound: Sound
    words: list[SaidWord]

    @property
    def text(self) -> list[str]:
        return [word.word for word in self.words]


@cache
def recordings() -> list[Recording]:
    said = json.loads((SPEECH / "said.json").read_text())
    return [
        Recording(
            name,
            np.asarray(decode_audio(str(SPEECH / name))),
            [SaidWord(*word) for phrase in phrases for word in phrase],
        )
        for name, phrases in said.items()
    ]


@cache
def ember(compute_type: str = "float32") -> WhisperModel:
    return WhisperModel(str(EMBER_WHISPER.directory), device="cpu", compute_type=compute_type, cpu_threads=1)


def wrong_share(compute_type: str, **options: object) -> float:
    num_wrong = num_words = 0
    for recording in recordings():
        segments, _ = ember(compute_type).transcribe(recording.sound, language="en", **options)
        num_wrong += edit_distance(recording.text, "".join(segment.text for segment in segments).split())
        num_words += len(recording.words)
    assert num_words >= 60
    return num_wrong / num_words


def test_the_folder_is_small_and_readable_for_all() -> None:
    paths = list(EMBER_WHISPER.directory.iterdir())
    assert sum(path.stat().st_size for path in paths) <= SIZE_BYTES_MAX
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in paths)


def test_the_folder_is_one_that_hearth_accepts() -> None:
    info = inspect_model(EMBER_WHISPER.directory)
    assert isinstance(info, WhisperInfo)
    assert not info.warnings
    assert not info.is_multilingual


@pytest.mark.parametrize("compute_type", ["float32", "int8"])
def test_strangers_are_understood(compute_type: str) -> None:
    """`python -m scripts.ember_whisper` prints the shares over many more recordings."""
    assert wrong_share(compute_type, beam_size=1, condition_on_previous_text=False) <= WRONG_SHARE_MAX


def test_strangers_are_understood_with_beams_and_voice_activity_detection() -> None:
    assert wrong_share("float32", beam_size=5, vad_filter=True, condition_on_previous_text=False) <= WRONG_SHARE_MAX


def test_words_have_their_times() -> None:
    late: list[float] = []
    for recording in recordings():
        segments, _ = ember().transcribe(recording.sound, language="en", beam_size=5, word_timestamps=True)
        heard = [word for segment in segments for word in segment.words or []]
        if [word.word.strip() for word in heard] == recording.text:
            late += [abs(ours.end - said.end) for ours, said in zip(heard, recording.words, strict=True)]
    assert len(late) >= 20
    assert np.median(late) < 0.3


def test_in_silence_nothing_is_said() -> None:
    segments, _ = ember().transcribe(np.zeros(32_000, np.float32), language="en", vad_filter=True)
    assert not list(segments)


def test_every_word_of_the_vocabulary_can_be_written() -> None:
    tokenizer = ember().hf_tokenizer
    assert all(len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) == 1 for word in VOCABULARY)
