"""Lets the model hear, as Hearth hears files, voices and speeds that it was not trained on, and counts wrong words."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from faster_whisper import BatchedInferencePipeline, WhisperModel

from scripts.ember_whisper.sound import Sound
from scripts.ember_whisper.voices import draw_held_out_voice
from scripts.ember_whisper.windows import Speaker, SpeechWindow, Synthesiser

NUM_WINDOWS = 60
SUITES = {"short": 400, "medium": 1000, "long": 3000}
"""Frames of a window at most."""
Hear = Callable[[Sound], str]


def evaluate(
    directory: Path, espeak: Synthesiser, num_threads: int, num_windows: int = NUM_WINDOWS
) -> dict[str, float]:
    """Shares of wrong words by suite."""
    model = WhisperModel(str(directory), device="cpu", compute_type="float32", cpu_threads=num_threads)

    pipeline = BatchedInferencePipeline(model)

    def hear_greedily(sound: Sound) -> str:
        segments, _ = pipeline.transcribe(sound, beam_size=1, language="en", without_timestamps=False)
        return "".join(segment.text for segment in segments)

    def hear_with_beams(sound: Sound) -> str:
        segments, _ = pipeline.transcribe(sound, beam_size=5, language="en", without_timestamps=False)
        return "".join(segment.text for segment in segments)

    ways: dict[str, Hear] = {"greedily": hear_greedily, "with_beams": hear_with_beams}
    return {
        f"{suite}_{way}": wrong_share(draw_windows(espeak, num_frames, num_windows), hear)
        for suite, num_frames in SUITES.items()
        for way, hear in ways.items()
    }


def draw_windows(espeak: Synthesiser, num_frames: int, num_windows: int) -> Iterator[SpeechWindow]:
    speaker = Speaker(random.Random(num_frames).randrange(2**31), draw_held_out_voice, espeak)
    for _ in range(num_windows):
        yield speaker.draw_window(num_frames, may_be_cut=False)


def wrong_share(windows: Iterator[SpeechWindow], hear: Hear) -> float:
    """Words that were added, left out or changed, of those that were said."""
    num_wrong = num_words = 0
    for window in windows:
        said = window.text.split()
        num_wrong += edit_distance(said, hear(window.sound).split())
        num_words += len(said)
    return num_wrong / num_words


def edit_distance(said: list[str], heard: list[str]) -> int:
    distances = list(range(len(heard) + 1))
    for row, word in enumerate(said, start=1):
        diagonal, distances[0] = distances[0], row
        for column, other in enumerate(heard, start=1):
            diagonal, distances[column] = (
                distances[column],
                min(distances[column] + 1, distances[column - 1] + 1, diagonal + (word != other)),
            )
    return distances[-1]
