"""Writes the sound files that tests listen to: strangers' speech in FLAC, and a list of what they say and when.

    .venv/bin/python -m scripts.ember_whisper.samples

Tests need no espeak-ng: they read what this wrote.
"""

import argparse
import json
from pathlib import Path

import av
import numpy as np

from scripts.ember_whisper.espeak import Espeak
from scripts.ember_whisper.sound import SAMPLE_RATE, Sound
from scripts.ember_whisper.voices import draw_held_out_voice
from scripts.ember_whisper.windows import Speaker, SpeechWindow, Synthesiser

DIRECTORY = Path(__file__).parents[2] / "tests" / "models" / "builtin" / "speech"
SAID = "said.json"
NUM_SAMPLES = 10
NUM_FRAMES = 600
SEED = 2024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.ember_whisper.samples", description=__doc__)
    parser.add_argument("--output", type=Path, default=DIRECTORY)
    options = parser.parse_args()
    write_samples(options.output, Espeak())


def write_samples(directory: Path, espeak: Synthesiser, num_samples: int = NUM_SAMPLES) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    speaker = Speaker(SEED, draw_held_out_voice, espeak)
    said: dict[str, list[list[tuple[str, float, float]]]] = {}
    while len(said) < num_samples:
        window = speaker.draw_window(NUM_FRAMES, may_be_cut=False)
        if sum(map(len, window.phrases)) < 4:
            continue
        name = f"stranger-{len(said)}.flac"
        write_flac(window.sound, directory / name)
        said[name] = _times(window)
    text = ",\n".join(f"  {json.dumps(name)}: {json.dumps(phrases)}" for name, phrases in said.items())
    (directory / SAID).write_text("{\n" + text + "\n}\n")


def write_flac(sound: Sound, path: Path) -> None:
    samples = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def _times(window: SpeechWindow) -> list[list[tuple[str, float, float]]]:
    """Word, start and end by phrase."""
    return [[(word, round(start, 3), round(end, 3)) for word, start, end in phrase] for phrase in window.phrases]


if __name__ == "__main__":
    main()
