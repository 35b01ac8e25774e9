"""The library itself, where it is installed: words have times, and voices differ."""

import ctypes.util

import numpy as np
import pytest

from scripts.ember_whisper.espeak import Espeak, EspeakMissing, Voice

pytestmark = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak()


def test_every_word_has_its_time(espeak: Espeak) -> None:
    utterance = espeak.say("turn on the kitchen light", Voice("en-us", 150))
    assert len(utterance.word_starts) == 5
    assert utterance.word_starts == sorted(utterance.word_starts)
    assert utterance.word_starts[-1] < len(utterance.samples) / utterance.sample_rate
    assert np.abs(utterance.samples).max() > 2000


def test_voices_differ_in_speed_and_sound(espeak: Espeak) -> None:
    slow, fast = (espeak.say("seven", Voice("en-us", speed)) for speed in (110, 200))
    assert len(slow.samples) > len(fast.samples)
    assert not np.array_equal(fast.samples[:5000], espeak.say("seven", Voice("en-us+f2", 200)).samples[:5000])


def test_a_voice_that_is_not_there_is_told(espeak: Espeak) -> None:
    with pytest.raises(EspeakMissing, match="no voice nobody"):
        espeak.say("one", Voice("nobody", 150))
