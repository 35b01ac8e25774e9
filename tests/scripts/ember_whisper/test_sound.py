"""Resampling keeps tones where they are; spectrograms are those of faster-whisper."""

import numpy as np
import pytest
import torch
from faster_whisper.feature_extractor import FeatureExtractor

from scripts.ember_whisper.sound import SAMPLE_RATE, noise, resample, spectrogram


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100])
def test_a_tone_stays_what_it_is(rate: int) -> None:
    tone = (10_000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)
    resampled = resample(tone, rate)
    assert len(resampled) == SAMPLE_RATE
    expected = 10_000 / 32768 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    inner = slice(500, -500)
    assert np.abs(resampled[inner] - expected[inner]).max() < 0.01


def test_nothing_stays_nothing() -> None:
    assert len(resample(np.zeros(0, np.int16), 22_050)) == 0


def test_noise_is_as_loud_as_it_should_be() -> None:
    made = noise(np.random.default_rng(1), 16_000, 0.02)
    assert float(np.std(made)) == pytest.approx(0.02, rel=1e-3)


def test_a_spectrogram_is_what_faster_whisper_makes() -> None:
    sound = noise(np.random.default_rng(2), 16_000, 0.1)
    expected = FeatureExtractor()(sound)
    made = spectrogram(torch.from_numpy(sound)[None])[0].numpy()
    assert made.shape == (80, 100)
    assert np.abs(made - expected[:, :100]).max() < 1e-3
