"""Where in a sound file somebody speaks, and which stretches are heard together.

Silero's model as it comes with faster-whisper finds speech, with faster-whisper's own rules for batches; stretches are
put together to clips of up to 30 s as it does. A long file is searched in blocks, so that memory has a bound.
"""

from typing import NamedTuple

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from runtime.whisper.windows import SAMPLE_RATE, Samples

BLOCK_S = 1800
"""A block takes some 400 MB while it is searched."""
_MIN_SILENCE_MS = 160
_SAMPLES_PER_UNIT = 32768.0


class Stretch(NamedTuple):
    """In samples of the file."""

    start: int
    end: int


class Clip(NamedTuple):
    """What is heard as one: stretches, of which the pauses between are left out."""

    stretches: list[Stretch]
    start: int
    """In samples, on a clock that stands still where nobody speaks."""

    @property
    def num_samples(self) -> int:
        return sum(stretch.end - stretch.start for stretch in self.stretches)


def as_float(samples: NDArray[np.int16]) -> Samples:
    return samples.astype(np.float32) / np.float32(_SAMPLES_PER_UNIT)


def find_speech(samples: NDArray[np.int16], max_clip_s: float, block_s: int = BLOCK_S) -> list[Stretch]:
    """None is longer than `max_clip_s`. A stretch that a block's end would cut is looked at with the next block."""
    options = VadOptions(max_speech_duration_s=max_clip_s, min_silence_duration_ms=_MIN_SILENCE_MS)
    found: list[Stretch] = []
    begin, block = 0, block_s * SAMPLE_RATE
    while begin < len(samples):
        part = as_float(samples[begin : begin + block])
        stretches = [
            Stretch(begin + stretch["start"], begin + stretch["end"])
            for stretch in get_speech_timestamps(part, options)
        ]
        next_begin = begin + len(part)
        if next_begin < len(samples) and len(stretches) > 1 and stretches[-1].end == next_begin:
            next_begin = stretches.pop().start
        found += stretches
        begin = next_begin
    return found


def pack(stretches: list[Stretch], max_clip_s: float) -> list[Clip]:
    """Neighbours come together as long as they fit."""
    clips: list[Clip] = []
    clock = 0
    for stretch in stretches:
        length = stretch.end - stretch.start
        if clips and clips[-1].num_samples + length <= max_clip_s * SAMPLE_RATE:
            clips[-1].stretches.append(stretch)
        else:
            clips.append(Clip([stretch], clock))
        clock += length
    return clips


def cut(samples: NDArray[np.int16], clip: Clip) -> Samples:
    return as_float(np.concatenate([samples[stretch.start : stretch.end] for stretch in clip.stretches]))
