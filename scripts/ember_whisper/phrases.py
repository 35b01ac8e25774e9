"""What is said: digits and commands for a home, composed at random, but repeatably.

No two words sound alike (two and to, four and for), so that sound alone decides how a word is written.
"""

import random
from collections.abc import Callable

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ROOMS = ("kitchen", "bedroom", "garden")
DEVICES = ("light", "heater", "radio")
OPENINGS = ("door", "window")
DIRECTIONS = ("left", "right", "up", "down")
SHORT_COMMANDS = ("yes", "no", "stop", "hello hearth")


def draw_phrase(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        return draw_digits(rng)
    if kind < 0.75:
        return draw_command(rng)
    return draw_words(rng)


def draw_digits(rng: random.Random) -> str:
    return " ".join(rng.choices(DIGITS, k=rng.choice((1, 2, 3, 4, 5, 6, 8))))


def draw_command(rng: random.Random) -> str:
    return rng.choice(_COMMANDS)(rng)


def draw_words(rng: random.Random) -> str:
    """Any words in any order: what was said cannot be guessed from what is usually said."""
    return " ".join(rng.choices(VOCABULARY, k=rng.randint(1, 6)))


def _switch(rng: random.Random) -> str:
    return f"turn {rng.choice(('on', 'off'))} the {rng.choice(ROOMS)} {rng.choice(DEVICES)}"


def _open(rng: random.Random) -> str:
    return f"{rng.choice(('open', 'close'))} the {rng.choice(OPENINGS)}"


def _play(rng: random.Random) -> str:
    return f"{rng.choice(('play', 'stop', 'pause'))} the {rng.choice(('music', 'radio'))}"


def _set_timer(rng: random.Random) -> str:
    return f"set the timer {rng.choice(DIGITS[2:])} minutes"


def _go(rng: random.Random) -> str:
    return f"go {rng.choice(DIRECTIONS)}"


def _say_shortly(rng: random.Random) -> str:
    return rng.choice(SHORT_COMMANDS)


_COMMANDS: tuple[Callable[[random.Random], str], ...] = (
    _switch,
    _open,
    _play,
    _set_timer,
    _go,
    _say_shortly,
)

VOCABULARY = tuple(
    dict.fromkeys(
        " ".join(
            (
                *DIGITS,
                *ROOMS,
                *DEVICES,
                *OPENINGS,
                *DIRECTIONS,
                *SHORT_COMMANDS,
                "turn on off the open close play pause music set timer minutes go",
            )
        ).split()
    )
)
"""Every word that can be said, once."""
