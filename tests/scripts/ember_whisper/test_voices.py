"""Who asks the model at the end has taught it nothing."""

import random

from scripts.ember_whisper.voices import (
    ACCENTS,
    HELD_OUT_SPEAKERS,
    SPEAKERS,
    draw_held_out_voice,
    draw_voice,
    is_held_out,
)


def test_no_speaker_or_speed_is_both_trained_and_held_out() -> None:
    assert not set(SPEAKERS) & set(HELD_OUT_SPEAKERS)
    rng = random.Random(1)
    assert not any(is_held_out(draw_voice(rng).words_per_minute) for _ in range(500))
    strangers = [draw_held_out_voice(rng) for _ in range(500)]
    assert all(is_held_out(voice.words_per_minute) for voice in strangers)
    assert {voice.name for voice in strangers} == {a + s for a in ACCENTS for s in HELD_OUT_SPEAKERS}
