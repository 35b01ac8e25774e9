import random

from scripts.ember_chat.words import draw_identifier, invent_word


def test_invented_words_are_many() -> None:
    assert len({invent_word(random.Random(seed)) for seed in range(1000)}) > 900


def test_held_out_identifiers_are_never_drawn_for_training() -> None:
    trained = {draw_identifier(random.Random(seed)) for seed in range(2000)}
    held_out = {draw_identifier(random.Random(seed), True) for seed in range(300)}
    assert not trained & held_out
    assert len(held_out) > 50
