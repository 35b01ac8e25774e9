"""Speech without espeak-ng: a tone for each word, as long as it has letters."""

import numpy as np

from scripts.ember_whisper.espeak import Utterance, Voice

RATE = 22_050
LETTER_S = 0.05


class ToneVoice:
    def __init__(self) -> None:
        self.voices: list[Voice] = []

    def say(self, text: str, voice: Voice) -> Utterance:
        self.voices.append(voice)
        words = text.split()
        lengths = [int(len(word) * LETTER_S * RATE) for word in words]
        starts = np.cumsum([0, *lengths])[:-1] / RATE
        samples = np.concatenate(
            [
                8000 * np.sin(np.arange(length) * (0.2 + 0.01 * len(word)))
                for word, length in zip(words, lengths, strict=True)
            ]
        )
        return Utterance(samples.astype(np.int16), RATE, starts.tolist())
