"""Who speaks, and how fast: which voices are trained and which only ask the model at the end.

Held-out speech has a speaker and a speed neither of which was trained; accents are those of training.
"""

import random

from scripts.ember_whisper.espeak import Voice

ACCENTS = (
    "en-us", "en", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbcwmd", "en-gb-x-gbclan", "en-gb-scotland", "en-029",
)  # fmt: skip
SPEAKERS = (
    "", "+m1", "+m2", "+m3", "+m5", "+m6", "+m7", "+f1", "+f2", "+f3", "+f5", "+Alex", "+Alicia", "+Andrea", "+Andy",
    "+Annie", "+Denis", "+Gene", "+Henrique", "+Hugo", "+Jacky", "+Lee", "+Marco", "+Mario", "+Michael", "+adam",
    "+anika", "+antonio", "+belinda", "+benjamin", "+boris", "+caleb", "+david", "+ed", "+edward", "+gustave", "+iven",
    "+john", "+linda", "+marcelo", "+max", "+michel", "+miguel", "+norbert", "+pablo", "+quincy", "+rob", "+sandro",
    "+shelby", "+steph", "+travis", "+zac",
)  # fmt: skip
SPEEDS = (120, 200)
"""Words a minute, slowest and fastest."""
SIZES = (0.88, 0.92, 0.96, 1.0, 1.0, 1.04, 1.08, 1.12)
"""Of the speakers that are trained: there are more throats than the synthesiser has names for."""

HELD_OUT_SPEAKERS = ("+m4", "+m8", "+f4", "+Diogo", "+Mike", "+paul", "+pedro", "+robert", "+steph2", "+victor")
HELD_OUT_SPEEDS = ((128, 132), (148, 152), (168, 172), (188, 192))
"""Nothing at these speeds is trained."""


def draw_voice(rng: random.Random) -> Voice:
    words_per_minute = rng.randint(*SPEEDS)
    while is_held_out(words_per_minute):
        words_per_minute = rng.randint(*SPEEDS)
    name = rng.choice(ACCENTS) + rng.choice(SPEAKERS)
    return Voice(name, words_per_minute, pitch=rng.randint(30, 70), size=rng.choice(SIZES))


def draw_held_out_voice(rng: random.Random) -> Voice:
    words_per_minute = rng.randint(*rng.choice(HELD_OUT_SPEEDS))
    return Voice(rng.choice(ACCENTS) + rng.choice(HELD_OUT_SPEAKERS), words_per_minute)


def is_held_out(words_per_minute: float) -> bool:
    return any(slowest <= words_per_minute <= fastest for slowest, fastest in HELD_OUT_SPEEDS)
