"""Where somebody speaks, found piece by piece as in the whole; and that what was heard is forgotten."""

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from runtime.whisper.live_sound import FRAME_SAMPLES, PAUSE_S, LiveSound, Silero, Utterance
from runtime.whisper.windows import SAMPLE_RATE
from tests.runtime.whisper.spoken import GAP_S, WORD_S, PlainVoice, frames, silence, speech

WORD = frames(WORD_S) + frames(GAP_S)


def sound_of(*parts: np.ndarray) -> LiveSound:
    sound = LiveSound(PlainVoice())
    for part in parts:
        sound.append(part)
        sound.judge()
    return sound


@pytest.mark.parametrize("num_frames", [1, 7, 40])
def test_in_pieces_the_voice_model_judges_as_in_one(num_frames: int) -> None:
    samples = np.random.default_rng(3).standard_normal(40 * FRAME_SAMPLES).astype(np.float32) * 0.1
    voice = Silero()
    pieces = samples.reshape(-1, num_frames, FRAME_SAMPLES) if 40 % num_frames == 0 else None
    parts = pieces if pieces is not None else np.array_split(samples.reshape(-1, FRAME_SAMPLES), 6)
    judged = np.concatenate([voice.judge(part) for part in parts])
    whole = get_vad_model()(np.concatenate([samples, np.zeros(FRAME_SAMPLES, np.float32)]))
    assert np.allclose(judged, whole.reshape(-1)[:40], atol=1e-6)


def test_without_speech_there_is_no_utterance() -> None:
    assert sound_of(silence(2)).first_utterance(0) is None


def test_an_utterance_is_over_when_a_pause_follows() -> None:
    start = frames(1)
    sound = sound_of(silence(1), speech(1, 2))
    assert sound.first_utterance(0) == Utterance(start, sound.num_judged, is_over=False)
    sound.append(silence(PAUSE_S + 0.5))
    sound.judge()
    utterance = sound.first_utterance(0)
    assert utterance is not None
    assert utterance.is_over
    assert (utterance.start, utterance.end) == (start, start + 2 * WORD + frames(GAP_S))


def test_a_short_pause_divides_nothing_and_a_long_one_does() -> None:
    sound = sound_of(speech(1, 2), silence(PAUSE_S - 0.3), speech(3, 2), silence(PAUSE_S + 0.5), speech(5, 1))
    first = sound.first_utterance(0)
    assert first is not None
    assert first.is_over
    assert first.end < 4 * WORD + frames(PAUSE_S)
    second = sound.first_utterance(first.end)
    assert second is not None
    assert (second.end, second.is_over) == (sound.num_judged, False)


def test_less_than_a_frame_waits() -> None:
    sound = sound_of(np.ones(FRAME_SAMPLES + 5, np.float32))
    assert (sound.num_judged, sound.num_unjudged) == (FRAME_SAMPLES, 5)
    sound.append(np.ones(FRAME_SAMPLES - 5, np.float32))
    sound.judge()
    assert sound.num_unjudged == 0


def test_positions_stay_when_the_beginning_is_forgotten() -> None:
    whole = np.concatenate([speech(1, 4), silence(1)])
    sound = sound_of(whole)
    sound.forget(2 * WORD)
    assert np.array_equal(sound.cut(2 * WORD, 3 * WORD), whole[2 * WORD : 3 * WORD])
    assert len(sound.cut(0, 2 * WORD)) == 0
    assert sound.num_kept == len(whole) - 2 * WORD


def test_what_is_skipped_was_never_there() -> None:
    sound = sound_of(speech(1, 4))
    sound.append(np.ones(7, np.float32))
    sound.skip()
    assert sound.first_utterance(0) is None
    assert sound.num_judged == sound.num_received == 4 * WORD + 7
    sound.append(speech(5, 1))
    sound.judge()
    utterance = sound.first_utterance(0)
    assert utterance is not None
    assert utterance.start == 4 * WORD + 7
    assert SAMPLE_RATE == 16_000
