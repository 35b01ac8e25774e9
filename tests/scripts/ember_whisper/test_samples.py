"""What tests listen to is written without loss, with what it says."""

import json
from pathlib import Path

import numpy as np
from faster_whisper.audio import decode_audio

from scripts.ember_whisper.samples import write_flac, write_samples
from tests.scripts.ember_whisper.tone_voice import ToneVoice


def test_flac_holds_the_samples_as_they_are(tmp_path: Path) -> None:
    sound = (np.random.default_rng(1).integers(-3000, 3000, 20_000) / 32768).astype(np.float32)
    write_flac(sound, tmp_path / "a.flac")
    assert np.array_equal(np.asarray(decode_audio(str(tmp_path / "a.flac"))), sound)


def test_every_sample_says_what_is_said(tmp_path: Path) -> None:
    write_samples(tmp_path, ToneVoice(), num_samples=2)
    said = json.loads((tmp_path / "said.json").read_text())
    assert set(said) == {path.name for path in tmp_path.glob("*.flac")}
    assert all(sum(map(len, phrases)) >= 4 for phrases in said.values())
