"""Sound as numbers: resampling, noise, and the spectrogram that Whisper hears. Knows no words."""

import math

import numpy as np
import numpy.typing as npt
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from torch import Tensor

SAMPLE_RATE = 16_000
FRAME_SAMPLES = 160
FRAMES_PER_S = SAMPLE_RATE // FRAME_SAMPLES
NUM_MEL_BINS = 80
_FFT_SAMPLES = 400

Sound = npt.NDArray[np.float32]
"""Mono, 16 kHz, between -1 and 1."""


def resample(samples: npt.NDArray[np.int16], sample_rate: int) -> Sound:
    """To 16 kHz, by cutting off what is above 8 kHz; good enough for speech that begins and ends in silence."""
    if not len(samples):
        return np.zeros(0, np.float32)
    common = math.gcd(sample_rate, SAMPLE_RATE)
    # Padded to whole periods of both rates, and to numbers with small factors, of which the transform is fast.
    num_periods = -(-len(samples) * common // sample_rate // 32) * 32
    padded = np.zeros(num_periods * sample_rate // common, np.float32)
    padded[: len(samples)] = samples.astype(np.float32) / 32768
    num_resampled = num_periods * SAMPLE_RATE // common
    resampled = np.fft.irfft(np.fft.rfft(padded)[: num_resampled // 2 + 1], num_resampled)
    wanted = len(samples) * SAMPLE_RATE // sample_rate
    return (resampled[:wanted] * (num_resampled / len(padded))).astype(np.float32)


def noise(rng: np.random.Generator, num_samples: int, level: float) -> Sound:
    """From hiss to rumble, as loud on average as `level` says."""
    white = rng.standard_normal(num_samples, np.float32)
    smoothed = np.convolve(white, np.ones(rng.integers(1, 9), np.float32), "same")
    return (smoothed * (level / max(float(np.std(smoothed)), 1e-9))).astype(np.float32)


_mel_filters = torch.from_numpy(FeatureExtractor.get_mel_filters(SAMPLE_RATE, _FFT_SAMPLES, NUM_MEL_BINS)).float()


def spectrogram(sounds: Tensor) -> Tensor:
    """[sounds, samples] to [sounds, mel bins, frames]: what faster-whisper's feature extractor makes of each sound."""
    padded = torch.nn.functional.pad(sounds, (0, FRAME_SAMPLES))
    window = torch.hann_window(_FFT_SAMPLES)
    spectrum = torch.stft(padded, _FFT_SAMPLES, FRAME_SAMPLES, window=window, center=True, return_complex=True)
    mel = (_mel_filters @ spectrum[..., :-1].abs().square()).clamp(min=1e-10).log10()
    mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
    return ((mel + 4.0) / 4.0)[..., : sounds.shape[1] // FRAME_SAMPLES]
