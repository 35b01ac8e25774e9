"""Speech from the espeak-ng library, with the time of every word. Knows nothing of what is said or why.

The library has one voice set at a time and no threads; whoever wants speech in parallel starts processes.
"""

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_SYNCHRONOUS_OUTPUT = 2
_NO_EXIT = 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_EVENT_END, _EVENT_WORD = 0, 1
_BUFFER_MS = 200


class EspeakMissing(Exception):
    """The espeak-ng library is not installed, or has no such voice."""


class Voice(NamedTuple):
    name: str
    """As espeak-ng knows it, e.g. `en-us+f2`."""
    words_per_minute: int
    """Whatever the size."""
    pitch: int = 50
    """0 to 99; so is `pitch_range`."""
    pitch_range: int = 50
    size: float = 1.0
    """Below it somebody smaller speaks: every resonance is higher."""


class Utterance(NamedTuple):
    samples: npt.NDArray[np.int16]
    sample_rate: int
    word_starts: list[float]
    """Seconds; one for each word of the text."""


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """One for each process: the library's state is global."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise EspeakMissing("install espeak-ng first (for example: apt-get install espeak-ng)")
        self._library = ctypes.CDLL(name)
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS_OUTPUT, _BUFFER_MS, None, _NO_EXIT)
        if self.sample_rate <= 0:
            raise EspeakMissing("the espeak-ng library found no voices")
        self._pieces: list[bytes] = []
        self._starts: dict[int, float] = {}
        self._callback = _Callback(self._take)  # kept, or the library would call freed memory
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: Voice) -> Utterance:
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise EspeakMissing(f"espeak-ng has no voice {voice.name}")
        for parameter, value in (
            (_RATE, round(voice.words_per_minute * voice.size)),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces, self._starts = [], {}
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.frombuffer(b"".join(self._pieces), np.int16)
        # Whoever plays it faster hears somebody smaller.
        sample_rate = self.sample_rate if voice.size == 1 else 100 * round(self.sample_rate / voice.size / 100)
        starts = [start * self.sample_rate / sample_rate for start in self._word_starts(text)]
        return Utterance(samples, sample_rate, starts)

    def _word_starts(self, text: str) -> Iterator[float]:
        """Words that the library runs together (`in the`) are one event: theirs is the time between its neighbours'."""
        position, known = 1, sorted(self._starts.items())
        for word in text.split():
            position = text.index(word, position - 1) + 1
            before = max(((at, start) for at, start in known if at <= position), default=(1, 0.0))
            after = min(
                ((at, start) for at, start in known if at > position), default=(position + len(word), before[1])
            )
            share = (position - before[0]) / (after[0] - before[0])
            yield before[1] + share * (after[1] - before[1])
            position += len(word)

    def _take(
        self, samples: "ctypes._Pointer[ctypes.c_short]", num_samples: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        with suppress(ValueError):  # a null pointer ends the speech
            self._pieces.append(ctypes.string_at(samples, num_samples * 2))
        index = 0
        while events[index].type != _EVENT_END:
            if events[index].type == _EVENT_WORD:
                self._starts[events[index].text_position] = events[index].audio_position_ms / 1000
            index += 1
        return 0
