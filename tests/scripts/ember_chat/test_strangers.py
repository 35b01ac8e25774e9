import random

from scripts.ember_chat.facts import load_facts, normalise
from scripts.ember_chat.strangers import REFUSAL, ask_large_sum, ask_stranger, held_out_strangers


def test_held_out_strangers_are_never_asked_in_training() -> None:
    trained = {ask_stranger(random.Random(seed)) for seed in range(5000)}
    named = [question for question in held_out_strangers(300, random.Random(1)) if question.text not in trained]
    assert len(named) > 290  # an invented word may be invented twice
    assert all(question.expected == REFUSAL for question in named)


def test_no_stranger_asks_for_a_known_fact() -> None:
    known = {normalise(wording) for fact in load_facts() for wording in fact.trained + fact.held_out}
    asked = {normalise(ask_stranger(random.Random(seed))) for seed in range(5000)}
    assert not known & asked


def test_large_sums_are_beyond_the_small_ones() -> None:
    known = {normalise(wording) for fact in load_facts() for wording in fact.trained + fact.held_out}
    assert not known & {normalise(ask_large_sum(random.Random(seed))) for seed in range(2000)}
