"""How wrong words are counted."""

import numpy as np
import pytest

from scripts.ember_whisper.evaluation import edit_distance, wrong_share
from scripts.ember_whisper.windows import SpeechWindow, SpokenWord


@pytest.mark.parametrize(
    ("said", "heard", "distance"),
    [
        ("", "", 0),
        ("one two", "one two", 0),
        ("one two", "", 2),
        ("", "one", 1),
        ("one two three", "one three", 1),
        ("one two three", "one four three", 1),
        ("one two", "two one", 2),
        ("one", "one one one", 2),
    ],
)
def test_words_that_were_added_left_out_or_changed_count(said: str, heard: str, distance: int) -> None:
    assert edit_distance(said.split(), heard.split()) == distance


def test_the_share_is_of_all_words_that_were_said() -> None:
    windows = [
        SpeechWindow(np.zeros(number, np.float32), [[SpokenWord(word, 0, 1) for word in text.split()]], is_cut=False)
        for number, text in ((1, "one two three"), (2, "four"))
    ]
    answers = {1: " one two", 2: " four"}
    assert wrong_share(iter(windows), lambda sound: answers[len(sound)]) == 0.25
