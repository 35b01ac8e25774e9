"""What the model learns from: windows as it will meet them, and what it should write of each, with every word's place.

Most are short, for time goes with their length. How it learns is `training.py`'s.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.ember_whisper.sound import FRAMES_PER_S, NUM_MEL_BINS, SAMPLE_RATE, spectrogram
from scripts.ember_whisper.tokenizer import Vocabulary
from scripts.ember_whisper.windows import WINDOW_FRAMES, Speaker, SpeechWindow, SpokenWord

BATCH_FRAMES = 4000
POSITIONS_PER_S = FRAMES_PER_S // 2
"""Of the encoder."""
PROMPT_SHARE = 0.3
TIMESTAMPS_SHARE = 0.8
"""Of the answers: with them every decoder asks that is not told otherwise."""
TIMED_WORDS_MAX = 3
"""Between two timestamps: they tell the model where it is, and the fewer words lie between, the surer it goes on."""
SILENT_SHARE = 0.04
MOVED_SHARE = 0.4
"""Of the batches of short windows: they stand anywhere in the long one, so that all its positions are learned."""
FIRST_TIMESTAMP_MAX_S = 1.0
"""Decoders hold the first timestamp below it."""
IGNORED = -100


class Batch(NamedTuple):
    features: Tensor
    token_ids: Tensor
    labels: Tensor
    word_spans: Tensor
    """[windows, tokens, 2]: encoder positions in which the label is said; empty where it is no word."""
    names: Tensor
    """[windows, encoder positions]: the word that is said there."""
    position: int = 0
    """Of the long window, where these short ones stand."""


def draw_batch(vocabulary: Vocabulary, speaker: Speaker, rng: random.Random, num_frames: int) -> Batch:
    windows = [_draw_window(speaker, rng, num_frames) for _ in range(max(BATCH_FRAMES // num_frames, 2))]
    samples = num_frames * SAMPLE_RATE // FRAMES_PER_S
    features = torch.zeros(len(windows), NUM_MEL_BINS, num_frames)
    for row, window in enumerate(windows):
        heard = spectrogram(torch.from_numpy(window.sound[:samples])[None])[0]
        features[row, :, : heard.shape[1]] = heard
    position = rng.randint(0, (WINDOW_FRAMES - num_frames) // 2) if rng.random() < MOVED_SHARE else 0
    is_full = num_frames == WINDOW_FRAMES
    written = [
        _write(vocabulary, rng, window, position, is_full, has_times=rng.random() < TIMESTAMPS_SHARE)
        for window in windows
    ]
    return _stack(features, written, vocabulary.end)._replace(position=position)


def _draw_window(speaker: Speaker, rng: random.Random, num_frames: int) -> SpeechWindow:
    window = speaker.draw_window(num_frames)
    if rng.random() >= SILENT_SHARE:
        return window
    level = 10 ** rng.uniform(-4, -1.5)
    return SpeechWindow((torch.randn(len(window.sound)) * level).numpy(), [], is_cut=False)


class _Written(NamedTuple):
    token_ids: list[int]
    labels: list[int]
    spans: list[tuple[int, int]]


def _write(
    vocabulary: Vocabulary, rng: random.Random, window: SpeechWindow, position: int, is_full: bool, *, has_times: bool
) -> _Written:
    """As Whisper is asked and answers, with or without times, at times after other text."""
    answer = list(_answer(vocabulary, window, position, is_full, has_times=has_times))
    prompt: list[int] = []
    if rng.random() < PROMPT_SHARE:
        prompt = [vocabulary.previous, *rng.choices(list(vocabulary.words.values()), k=rng.randint(1, 40))]
    asked = [*prompt, vocabulary.start] + ([] if has_times else [vocabulary.no_timestamps])
    token_ids = [*asked, *(token_id for token_id, _ in answer)]
    labels = [IGNORED] * (len(asked) - 1) + [*(token_id for token_id, _ in answer), IGNORED]
    spans = [(0, 0)] * (len(asked) - 1) + [*(span for _, span in answer), (0, 0)]
    if not window.phrases:
        labels[len(prompt)] = vocabulary.no_speech
    elif not has_times:
        labels[len(prompt)] = vocabulary.no_timestamps
    return _Written(token_ids, labels, spans)


def _answer(
    vocabulary: Vocabulary, window: SpeechWindow, position: int, is_full: bool, *, has_times: bool
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Tokens, each with the encoder positions where it is said."""
    nowhere = (0, 0)
    last_s, position_s = 0.0, position / POSITIONS_PER_S
    stretches = list(_stretches(window.phrases))
    if has_times and not stretches:
        yield vocabulary.timestamp(position_s), nowhere
    for number, words in enumerate(stretches):
        start_s = words[0].start
        if number == 0 and position == 0:
            start_s = min(start_s, FIRST_TIMESTAMP_MAX_S)
        if has_times:
            yield vocabulary.timestamp(position_s + start_s), _around(start_s)
        if has_times and is_full and window.is_cut and 0 < number == len(stretches) - 1:
            break  # heard again in the next window, whole
        for word in words:
            first = int(word.start * POSITIONS_PER_S)
            yield vocabulary.words[word.word], (first, max(int(word.end * POSITIONS_PER_S), first + 1))
        last_s = words[-1].end
        if has_times:
            yield vocabulary.timestamp(position_s + last_s), _around(last_s)
    # The end is seen right after the last word, so that this one has an end in time, too.
    after = int(last_s * POSITIONS_PER_S)
    yield vocabulary.end, (after, after + 10) if window.phrases else nowhere


def _stretches(phrases: list[list[SpokenWord]]) -> Iterator[list[SpokenWord]]:
    """What stands between two timestamps."""
    for phrase in phrases:
        for start in range(0, len(phrase), TIMED_WORDS_MAX):
            yield phrase[start : start + TIMED_WORDS_MAX]


def _around(time_s: float) -> tuple[int, int]:
    position = round(time_s * POSITIONS_PER_S)
    return max(position - 1, 0), position + 2


def _stack(features: Tensor, written: list[_Written], end: int) -> Batch:
    length = max(len(one.token_ids) for one in written)
    token_ids = torch.full((len(written), length), end)
    labels = torch.full((len(written), length), IGNORED)
    spans = torch.zeros(len(written), length, 2, dtype=torch.long)
    num_positions = features.shape[2] // 2
    names = torch.full((len(written), num_positions), end)
    for row, one in enumerate(written):
        token_ids[row, : len(one.token_ids)] = torch.tensor(one.token_ids)
        labels[row, : len(one.labels)] = torch.tensor(one.labels)
        spans[row, : len(one.spans)] = torch.tensor(one.spans)
        for label, (first, last) in zip(one.labels, one.spans, strict=True):
            if label < end:
                names[row, first:last] = label
    return Batch(features, token_ids, labels, spans.clamp(max=num_positions), names)
