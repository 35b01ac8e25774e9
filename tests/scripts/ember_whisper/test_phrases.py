"""What is said is of the vocabulary, all of it is said, and the same seed says the same."""

import random

from scripts.ember_whisper.phrases import DIGITS, VOCABULARY, draw_digits, draw_phrase


def test_every_word_is_of_the_vocabulary_and_every_word_is_said() -> None:
    rng = random.Random(1)
    said = {word for _ in range(2000) for word in draw_phrase(rng).split()}
    assert said == set(VOCABULARY)
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_digits_are_digits() -> None:
    rng = random.Random(2)
    assert all(word in DIGITS for _ in range(50) for word in draw_digits(rng).split())


def test_the_same_seed_says_the_same() -> None:
    assert [draw_phrase(random.Random(3)) for _ in range(3)] == [draw_phrase(random.Random(3)) for _ in range(3)]
