"""What ember-chat knows: the facts of texts/*.toml and small sums, each with every wording of its question.

Wordings are split once, by fact: those held out are never trained and are what the evaluation asks.
Imports neither torch nor transformers, so that any test may ask the held-out questions.
"""

import random
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import msgspec

from scripts.ember_chat.texts import read_text

HELD_OUT_SHARE = 0.15
HELD_OUT_MIN = 2
LARGEST_ADDEND = 5

VALUE_FRAMES = (
    "What is {subject}?",
    "What's {subject}?",
    "Tell me {subject}.",
    "Can you tell me {subject}?",
    "Do you know {subject}?",
    "I want to know {subject}.",
    "Give me {subject}.",
    "I forgot {subject}.",
    "Could you say what {subject} is?",
    "{subject}?",
)
PLACE_FRAMES = (
    "Where is {subject}?",
    "Where do I find {subject}?",
    "Where can I find {subject}?",
    "Where does Hearth keep {subject}?",
    "Tell me where {subject} is.",
    "Show me where to find {subject}.",
    "I am looking for {subject}.",
    "Where should I look for {subject}?",
)
COMMAND_FRAMES = (
    "How do I {subject}?",
    "How can I {subject}?",
    "How could I {subject}?",
    "I want to {subject}.",
    "I would like to {subject}.",
    "What do I do to {subject}?",
    "What must I do to {subject}?",
    "Tell me how to {subject}.",
    "Show me how to {subject}.",
    "Help me {subject}.",
    "Can you tell me how to {subject}?",
    "Is there a way to {subject}?",
)
TERM_FRAMES = (
    "What is {subject}?",
    "What's {subject}?",
    "Explain {subject}.",
    "Can you explain {subject}?",
    "Explain what {subject} is.",
    "Tell me what {subject} is.",
    "Do you know what {subject} is?",
    "Tell me about {subject}.",
    "I do not know what {subject} is.",
    "What do you mean by {subject}?",
    "What does {bare} mean?",
    "Define {bare}.",
    "What is meant by {bare}?",
    "What is the meaning of {bare}?",
)
TERM_FOLLOW_UPS = ("And {subject}?", "What about {subject}?", "And what is {subject}?")
SUM_WORDINGS = (
    "What is {a} plus {b}?",
    "What is {a} + {b}?",
    "What's {a} + {b}?",
    "What's {a} plus {b}?",
    "How much is {a} plus {b}?",
    "How much is {a} + {b}?",
    "{a} + {b}",
    "{a} + {b} = ?",
    "{a} plus {b}?",
    "Add {a} and {b}.",
    "Compute {a} + {b}.",
    "Calculate {a} plus {b}.",
    "What is the sum of {a} and {b}?",
    "Tell me what {a} plus {b} is.",
)


class Fact(NamedTuple):
    """One thing to know: one answer, many ways to ask for it."""

    id: str
    family: str
    """Facts that a short follow-up ("And Italy?") can move between."""
    answer: str
    key: str
    """What a right answer must contain."""
    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    follow_ups: tuple[str, ...] = ()
    data: dict[str, str | int] | None = None
    """The answer in JSON; None: never asked for in JSON."""


class Question(NamedTuple):
    """A wording that was never trained, and what its answer must contain."""

    text: str
    expected: str

    def is_answered_by(self, answer: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(self.expected)}(?!\w)", answer) is not None


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One table of values, places, commands, terms, fire or talk."""

    key: str
    answer: str
    value: str | int | None = None
    """What stands in JSON where the key reads badly."""
    subjects: list[str] = []
    names: list[str] = []
    questions: list[str] = []


class _Family(msgspec.Struct, forbid_unknown_fields=True):
    """One table of tables.toml."""

    answer: str
    field: str
    value_field: str
    questions: list[str]
    follow_ups: list[str]
    entities: dict[str, str]


@cache
def load_facts() -> tuple[Fact, ...]:
    facts = (
        *_framed_facts("values", VALUE_FRAMES),
        *_framed_facts("places", PLACE_FRAMES),
        *_framed_facts("commands", COMMAND_FRAMES),
        *_term_facts("terms"),
        *_term_facts("fire"),
        *_framed_facts("talk", ()),
        *_family_facts(),
        *_sum_facts(),
    )
    for fact in facts:
        if fact.key not in fact.answer:
            raise ValueError(f"{fact.id}: the answer does not hold the key {fact.key!r}")
    return facts


def held_out_questions() -> list[Question]:
    """Every question of the held-out split, sums included."""
    return [Question(wording, fact.key) for fact in load_facts() for wording in fact.held_out]


def normalise(text: str) -> str:
    """Letters and digits in lower case: two wordings are the same if this is."""
    return " ".join(re.findall(r"[a-z0-9+=]+", text.lower()))


def _framed_facts(kind: str, frames: tuple[str, ...]) -> Iterator[Fact]:
    for name, entry in read_text(kind, dict[str, _Entry]).items():
        framed = [_capitalise(frame.format(subject=subject)) for subject in entry.subjects for frame in frames]
        yield _fact(name, kind, entry.answer, entry.key, framed + entry.questions, data=_data_of(kind, name, entry))


def _data_of(kind: str, name: str, entry: _Entry) -> dict[str, str | int] | None:
    match kind:
        case "talk":
            return None
        case "commands":
            return {"command": entry.key}
        case _:
            value = entry.key if entry.value is None else entry.value
            return {name: int(value) if str(value).isdigit() else value}


def _term_facts(kind: str) -> Iterator[Fact]:
    for name, entry in read_text(kind, dict[str, _Entry]).items():
        bare_names = [re.sub("^(a|an|the) ", "", subject) for subject in entry.names]
        framed = [
            frame.format(subject=subject, bare=bare)
            for subject, bare in zip(entry.names, bare_names, strict=True)
            for frame in TERM_FRAMES
        ]
        follow_ups = [frame.format(subject=subject) for subject in entry.names for frame in TERM_FOLLOW_UPS]
        data: dict[str, str | int] = {"term": bare_names[0], "meaning": entry.answer}
        yield _fact(name, kind, entry.answer, entry.key, framed + entry.questions, follow_ups, data)


def _family_facts() -> Iterator[Fact]:
    for family, table in read_text("tables", dict[str, _Family]).items():
        for name, value in table.entities.items():
            yield _fact(
                f"{family}:{name}",
                family,
                table.answer.format(name=name, Name=_capitalise(name), value=value),
                value,
                [_capitalise(question.format(name=name)) for question in table.questions],
                [follow_up.format(name=name) for follow_up in table.follow_ups],
                {table.field: name, table.value_field: int(value) if value.isdigit() else value},
            )


def _sum_facts() -> Iterator[Fact]:
    for a in range(LARGEST_ADDEND + 1):
        for b in range(LARGEST_ADDEND + 1):
            wordings = [wording.format(a=a, b=b) for wording in SUM_WORDINGS]
            yield _fact(
                f"sum:{a}+{b}", "sum", f"{a} plus {b} is {a + b}.", f"is {a + b}", wordings, data={"sum": a + b}
            )


def _fact(
    name: str,
    family: str,
    answer: str,
    key: str,
    wordings: list[str],
    follow_ups: Iterable[str] = (),
    data: dict[str, str | int] | None = None,
) -> Fact:
    """Splits the wordings by a generator seeded with the fact's name, so that no other fact can move the split."""
    distinct = list({normalise(wording): wording for wording in wordings}.values())
    random.Random(name).shuffle(distinct)
    num_held_out = max(HELD_OUT_MIN, round(HELD_OUT_SHARE * len(distinct)))
    held_out, trained = distinct[:num_held_out], distinct[num_held_out:]
    return Fact(name, family, answer, key, tuple(trained), tuple(held_out), tuple(follow_ups), data)


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]
