"""Each filter does to sound what its name promises, and leaves its length alone."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.tasks.speech import Preprocessing
from runtime.whisper.decoding import SoundDecoder
from runtime.whisper.preprocessing import FILTERS
from runtime.whisper.windows import SAMPLE_RATE
from tests.fakes.tiny_whisper import wav_file

QUARTER_S = 20


@pytest.fixture(scope="module")
def decoder() -> Iterator[SoundDecoder]:
    with SoundDecoder() as decoder:
        yield decoder


def filtered(
    decoder: SoundDecoder, sound: NDArray[np.float32], preprocessing: Preprocessing, path: Path
) -> NDArray[np.float64]:
    descriptor = os.open(wav_file(sound, path / "sound.wav"), os.O_RDONLY)
    try:
        return decoder.decode(descriptor, preprocessing, 600.0) / 32768
    finally:
        os.close(descriptor)


def tone(frequency: float, duration_s: float, loudness: float) -> NDArray[np.float32]:
    time = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    return np.asarray(loudness * np.sin(2 * np.pi * frequency * time), dtype=np.float32)


def loudness(sound: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def test_every_name_has_its_filters() -> None:
    assert set(FILTERS) == set(get_args(Preprocessing))


def test_none_changes_nothing_and_no_filter_the_length(decoder: SoundDecoder, tmp_path: Path) -> None:
    sound = tone(440, 3, 0.2)
    for preprocessing in FILTERS:
        after = filtered(decoder, sound, preprocessing, tmp_path)
        assert len(after) == len(sound)
        assert np.allclose(after, sound, atol=1e-4) == (preprocessing == "none")


def test_far_voices_come_nearer_and_dynamic_brings_them_nearest(decoder: SoundDecoder, tmp_path: Path) -> None:
    sound = np.concatenate([tone(440, QUARTER_S, 0.5), tone(440, QUARTER_S, 0.03)])
    differences = {}
    for preprocessing in FILTERS:
        after = filtered(decoder, sound, preprocessing, tmp_path)
        loud, quiet = after[: QUARTER_S // 2 * SAMPLE_RATE], after[-QUARTER_S // 2 * SAMPLE_RATE :]
        differences[preprocessing] = loudness(loud) / loudness(quiet)
    assert differences["dynamic"] < 0.5 * differences["soft_dynamic"]
    assert differences["soft_dynamic"] < 0.5 * differences["none"]


def test_bass_dynamic_lifts_low_tones_above_others(decoder: SoundDecoder, tmp_path: Path) -> None:
    sound = tone(80, 5, 0.1) + tone(2000, 5, 0.1)

    def share_of_bass(preprocessing: Preprocessing) -> float:
        spectrum = np.abs(np.fft.rfft(filtered(decoder, sound, preprocessing, tmp_path)))
        return float(spectrum[80 * 5] / spectrum[2000 * 5])

    assert share_of_bass("bass_dynamic") > 1.5 * share_of_bass("dynamic")
