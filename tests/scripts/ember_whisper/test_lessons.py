"""What the model is given: the next tokens, and the place of each word."""

import random

import torch

from scripts.ember_whisper.lessons import draw_batch
from scripts.ember_whisper.tokenizer import train_tokenizer
from scripts.ember_whisper.voices import draw_voice
from scripts.ember_whisper.windows import Speaker
from tests.scripts.ember_whisper.tone_voice import ToneVoice

vocabulary = train_tokenizer()


def test_labels_are_the_next_tokens_and_words_have_their_places() -> None:
    batch = draw_batch(vocabulary, Speaker(5, draw_voice, ToneVoice()), random.Random(1), 300)
    is_word = (batch.labels >= 0) & (batch.labels < vocabulary.end)
    spans = batch.word_spans
    assert is_word.any()
    assert torch.equal(batch.labels[:, :-1][is_word[:, :-1]], batch.token_ids[:, 1:][is_word[:, :-1]])
    assert (spans[is_word][:, 0] <= spans[is_word][:, 1]).all()
    assert spans.max() <= batch.features.shape[2] // 2
    for row, column in is_word.nonzero().tolist():
        first, last = spans[row, column].tolist()
        assert (batch.names[row, first:last] == batch.labels[row, column]).all()
