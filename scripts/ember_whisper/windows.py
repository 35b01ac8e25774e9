"""Windows of sound as the model meets them: phrases of one or more voices with pauses, often cut off, often noisy.

What a window says is known to the word: who trains writes it down as Whisper does, who evaluates compares words.
"""

import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from scripts.ember_whisper.espeak import Utterance, Voice
from scripts.ember_whisper.phrases import draw_phrase
from scripts.ember_whisper.sound import FRAME_SAMPLES, SAMPLE_RATE, Sound, noise, resample

WINDOW_FRAMES = 3000
"""30 s, all that Whisper hears at once."""
HEARD_SHARE_MIN = 0.7
"""Of a word that the window's end cuts: from there on it is written down."""
SILENCE_LEVEL = 0.01
"""Samples below it at a phrase's ends are no speech."""

DrawVoice = Callable[[random.Random], Voice]


class Synthesiser(Protocol):
    """`Espeak` in earnest."""

    def say(self, text: str, voice: Voice) -> Utterance: ...


class SpokenWord(NamedTuple):
    word: str
    start: float
    """Seconds from the window's beginning; so is `end`."""
    end: float


class SpeechWindow(NamedTuple):
    sound: Sound
    phrases: list[list[SpokenWord]]
    is_cut: bool
    """Whether the last phrase goes on after the window's end."""

    @property
    def text(self) -> str:
        return " ".join(word.word for phrase in self.phrases for word in phrase)


class Phrase(NamedTuple):
    sound: Sound
    words: list[SpokenWord]


class Speaker:
    """Draws windows; the same seed gives the same phrases and voices, and sounds nearly the same."""

    def __init__(self, seed: int, draw_voice: DrawVoice, synthesiser: Synthesiser) -> None:
        self._rng = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._draw_voice = draw_voice
        self._synthesiser = synthesiser

    def draw_phrase(self, text: str | None = None) -> Phrase:
        """Without silence around it."""
        text = text or draw_phrase(self._rng)
        utterance = self._synthesiser.say(text, self._draw_voice(self._rng))
        sound = resample(utterance.samples, utterance.sample_rate)
        loud = np.flatnonzero(np.abs(sound) > SILENCE_LEVEL)
        if not len(loud):
            return self.draw_phrase(text)
        begin_s, end_s = loud[0] / SAMPLE_RATE, loud[-1] / SAMPLE_RATE
        starts = [min(max(start - begin_s, 0.0), end_s - begin_s) for start in utterance.word_starts]
        ends = [*starts[1:], end_s - begin_s]
        words = [SpokenWord(*word) for word in zip(text.split(), starts, ends, strict=True)]
        return Phrase(sound[loud[0] : loud[-1] + 1], words)

    def draw_window(self, num_frames: int, *, may_be_cut: bool = True) -> SpeechWindow:
        """At most so many frames; shorter where speech ends early."""
        rng = self._rng
        length_s = num_frames * FRAME_SAMPLES / SAMPLE_RATE
        ends_early = not may_be_cut or rng.random() < 0.6
        sound = np.zeros(num_frames * FRAME_SAMPLES, np.float32)
        phrases: list[list[SpokenWord]] = []
        at_s = rng.choice((0.0, rng.uniform(0.0, 0.5), rng.uniform(0.0, 1.0)))
        is_cut = False
        while at_s < length_s and not is_cut:
            phrase = self.draw_phrase()
            phrase_s = len(phrase.sound) / SAMPLE_RATE
            if at_s + phrase_s > length_s and (ends_early or not may_be_cut):
                break
            is_cut = at_s + phrase_s > length_s
            words = _place(phrase.words, at_s, length_s)
            _add(sound, phrase.sound * rng.uniform(0.2, 1.0), at_s)
            if words:
                phrases.append(words)
            at_s += phrase_s + rng.choice((rng.uniform(0.1, 0.4), rng.uniform(0.3, 1.2), rng.uniform(0.3, 3.0)))
            if phrases and rng.random() < 0.15:
                break
        if not is_cut and rng.random() < 0.7:
            last_s = phrases[-1][-1].end if phrases else rng.uniform(0.5, length_s)
            sound = sound[: max(int((last_s + rng.uniform(0.05, 0.8)) * SAMPLE_RATE), 1600)]
        return SpeechWindow(self._disturb(sound), phrases, is_cut)

    def _disturb(self, sound: Sound) -> Sound:
        if self._rng.random() < 0.5:
            return sound
        level = 10 ** self._rng.uniform(-4.5, -2.3)
        return sound + noise(self._noise, len(sound), level)


def _place(words: list[SpokenWord], at_s: float, length_s: float) -> list[SpokenWord]:
    """What of a phrase that begins at `at_s` can be understood before the end."""
    moved = [SpokenWord(word, start + at_s, end + at_s) for word, start, end in words]
    heard = [word for word in moved if word.start + HEARD_SHARE_MIN * (word.end - word.start) <= length_s]
    return [word._replace(end=min(word.end, length_s)) for word in heard]


def _add(sound: Sound, phrase: Sound, at_s: float) -> None:
    begin = int(at_s * SAMPLE_RATE)
    end = min(begin + len(phrase), len(sound))
    sound[begin:end] += phrase[: end - begin]
