"""Questions that ember-chat cannot answer, and the one honest answer to all of them.

Some subjects are kept for the evaluation, and many are invented, so that the model learns to refuse what it does not
recognise instead of a list of topics.
"""

import random

import msgspec

from scripts.ember_chat.facts import LARGEST_ADDEND, Question
from scripts.ember_chat.texts import read_text
from scripts.ember_chat.words import invent_word

REFUSAL = "I only know about Hearth, fire, capitals and small sums, so I cannot answer that."
LARGE_SUM_REFUSAL = f"I can only add numbers up to {LARGEST_ADDEND}."
LARGE_SUM_FRAMES = ("What is {a} plus {b}?", "What is {a} + {b}?", "{a} + {b}", "Add {a} and {b}.", "{a} plus {b}?")
INVENTED_SHARE = 0.3

_HELD_OUT_EVERY = 5


class _Kind(msgspec.Struct, forbid_unknown_fields=True):
    """Questions that are one frame around one subject."""

    frames: list[str]
    subjects: list[str]

    def trained(self) -> list[str]:
        return [subject for index, subject in enumerate(self.subjects) if index % _HELD_OUT_EVERY]

    def held_out(self) -> list[str]:
        return self.subjects[::_HELD_OUT_EVERY]


_KINDS = read_text("strangers", dict[str, _Kind])
_WEIGHTS = {"topics": 4, "deeds": 2, "places": 2, "others": 2}


def ask_stranger(rng: random.Random) -> str:
    """A question outside the domain, of the kind that is trained."""
    return _ask(rng, is_held_out=False)


def held_out_strangers(count: int, rng: random.Random) -> list[Question]:
    """Questions about subjects that are never trained."""
    return [Question(_ask(rng, is_held_out=True), REFUSAL) for _ in range(count)]


def ask_large_sum(rng: random.Random) -> str:
    addends = [rng.randint(0, 999), rng.randint(LARGEST_ADDEND + 1, 999)]
    rng.shuffle(addends)
    return rng.choice(LARGE_SUM_FRAMES).format(a=addends[0], b=addends[1])


def _ask(rng: random.Random, is_held_out: bool) -> str:
    (name,) = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    kind = _KINDS[name]
    subject = rng.choice(kind.held_out() if is_held_out else kind.trained())
    if name != "others" and rng.random() < INVENTED_SHARE:
        subject = invent_word(rng).capitalize() if name == "places" else invent_word(rng)
    return rng.choice(kind.frames).format(x=subject)
