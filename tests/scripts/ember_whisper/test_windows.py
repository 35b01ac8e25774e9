"""A window says what it holds, where it holds it, and nothing that was cut away."""

from itertools import pairwise

import numpy as np

from scripts.ember_whisper.sound import SAMPLE_RATE
from scripts.ember_whisper.voices import draw_held_out_voice
from scripts.ember_whisper.windows import HEARD_SHARE_MIN, Speaker, SpeechWindow
from tests.scripts.ember_whisper.tone_voice import LETTER_S, ToneVoice


def draw(num_frames: int, count: int, *, may_be_cut: bool = True) -> list[SpeechWindow]:
    speaker = Speaker(7, draw_held_out_voice, ToneVoice())
    return [speaker.draw_window(num_frames, may_be_cut=may_be_cut) for _ in range(count)]


def test_the_same_seed_draws_the_same() -> None:
    first, second = draw(300, 5), draw(300, 5)
    assert [window.text for window in first] == [window.text for window in second]
    assert all(np.array_equal(one.sound, other.sound) for one, other in zip(first, second, strict=True))


def test_windows_are_no_longer_than_asked() -> None:
    assert all(1600 <= len(window.sound) <= 300 * 160 for window in draw(300, 40))


def test_words_are_loud_where_they_are_said_to_be() -> None:
    for window in draw(600, 20, may_be_cut=False):
        for word in (word for phrase in window.phrases for word in phrase):
            middle = int((word.start + word.end) / 2 * SAMPLE_RATE)
            assert np.abs(window.sound[middle - 200 : middle + 200]).max() > 0.04
            assert abs(word.end - word.start - len(word.word) * LETTER_S) < 0.03


def test_words_follow_one_another() -> None:
    for window in draw(600, 20):
        words = [word for phrase in window.phrases for word in phrase]
        assert all(before.end <= after.start + 1e-6 for before, after in pairwise(words))


def test_a_word_of_which_most_is_cut_off_is_not_said() -> None:
    cut = [window for window in draw(200, 80) if window.is_cut]
    assert cut
    for window in cut:
        for word in (word for phrase in window.phrases for word in phrase):
            assert word.end <= len(window.sound) / SAMPLE_RATE + 1e-6
            assert word.end - word.start > HEARD_SHARE_MIN * len(word.word) * LETTER_S - 0.03


def test_what_may_not_be_cut_is_not() -> None:
    assert not any(window.is_cut for window in draw(300, 40, may_be_cut=False))
