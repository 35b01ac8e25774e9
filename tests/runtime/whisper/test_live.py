"""A conversation from its first sample to its last: what is said when, and that final words stay as they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine import RequestRefused
from runtime.tasks.speech import AudioChunk, Heard, Trace, Word
from runtime.whisper.confirmation import Confirmation
from runtime.whisper.live import CUT_AFTER_SHARE, SPARE_S, STEP_S, widest_gap
from runtime.whisper.windows import SAMPLE_RATE, WINDOW_S, Samples
from tests.runtime.whisper.spoken import Talk, hear, silence, speech, text_of


def joined(*parts: Samples) -> Samples:
    return np.concatenate(parts)


def test_silence_is_not_heard() -> None:
    talk = Talk()
    talk.send(silence(30))
    talk.trace()
    assert not talk.windows
    assert talk.traces == ["a"]
    assert talk.source._sound.num_kept < SAMPLE_RATE


def test_words_come_while_they_are_spoken_and_become_final_before_the_end() -> None:
    talk = Talk()
    talk.send(speech(1, 5))
    segment = talk.shown[0]
    assert segment.text.startswith(text_of(1, 4))
    assert segment.words is not None
    assert [word.is_final for word in segment.words[:3]] == [True, True, True]
    assert not segment.words[-1].is_final


def test_a_pause_makes_all_words_final_and_ends_the_segment() -> None:
    talk = Talk()
    talk.send(joined(silence(1), speech(1, 3), silence(1.5), speech(4, 2), silence(1.5)))
    assert [segment.text for segment in talk.shown.values()] == [text_of(1, 3), text_of(4, 2)]
    assert all(word.is_final for segment in talk.shown.values() for word in segment.words or [])
    assert talk.shown[0].start == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("clip_s", [WINDOW_S, 10.0])
def test_the_text_is_the_one_that_was_said_however_long_nobody_pauses(clip_s: float) -> None:
    talk = Talk(clip_s=clip_s)
    talk.send(speech(1, 120))
    talk.end()
    assert talk.text == text_of(1, 120)
    assert len(talk.shown) > 2
    assert max(len(window.samples) for window in talk.windows) <= (clip_s - SPARE_S) * SAMPLE_RATE
    lengths = [segment.end - segment.start for segment in talk.shown.values()]
    assert max(lengths) <= CUT_AFTER_SHARE * clip_s + 2 * STEP_S


def test_what_comes_all_at_once_is_heard_in_few_windows() -> None:
    talk = Talk()
    talk.send(joined(*(joined(speech(1 + 5 * index, 5), silence(1)) for index in range(12))), is_heard=False)
    talk.end()
    assert talk.text == text_of(1, 60)
    assert len(talk.windows) == 12


def test_a_slow_machine_hears_longer_windows_instead_of_more() -> None:
    talk = Talk()
    talk.send(speech(1, 10), is_heard=False)
    assert talk.hear_once()
    assert not talk.hear_once()
    assert text_of(1, 9) in talk.text


def test_a_trace_is_answered_when_everything_before_it_was_heard() -> None:
    talk = Talk()
    talk.send(speech(1, 1), is_heard=False)
    talk._note(talk.source.feed(AudioChunk(request_id="r", data=b"")))
    assert not talk.windows
    talk.trace("first")
    assert talk.traces == ["first"]
    assert talk.text == text_of(1, 1)
    talk.trace("again")
    assert talk.traces == ["first", "again"]


def test_what_is_in_flight_is_before_the_trace() -> None:
    talk = Talk()
    talk.send(speech(1, 3), is_heard=False)
    window = talk.source.next_window()
    assert window is not None
    talk.send(speech(4, 1), is_heard=False)
    talk._note(talk.source.feed(Trace(request_id="r", trace_id="t")))
    talk._note(talk.source.take(hear(window)))
    assert talk.traces == []
    assert talk.hear_once()
    assert talk.traces == ["t"]
    assert talk.text == text_of(1, 4)


def test_clearing_forgets_what_was_said_and_segment_ids_begin_again() -> None:
    talk = Talk()
    talk.send(joined(speech(1, 3), silence(1), speech(4, 3)))
    talk.clear()
    assert talk.resets == ["x"]
    talk.send(joined(silence(1), speech(7, 3), silence(1)))
    assert [(segment.id, segment.text) for segment in talk.shown.values()] == [(0, text_of(7, 3))]
    assert talk.shown[0].start > 6 * 0.3, "times go on"


def test_a_window_that_was_cleared_away_says_nothing() -> None:
    talk = Talk()
    talk.send(speech(1, 4), is_heard=False)
    window = talk.source.next_window()
    assert window is not None
    talk.clear()
    talk._note(talk.source.take(hear(window)))
    assert not talk.shown
    talk.send(joined(silence(1), speech(9, 2), silence(1)))
    assert talk.text == text_of(9, 2)


def test_the_end_of_the_sound_makes_everything_final() -> None:
    talk = Talk()
    talk.send(joined(silence(0.5), speech(1, 3)))
    talk.end()
    assert talk.source.is_finished
    assert talk.pieces[-1].is_last
    assert all(word.is_final for word in talk.shown[0].words or [])
    assert talk.text == text_of(1, 3)


def test_all_sound_is_metered_once_silence_too() -> None:
    talk = Talk()
    sound = joined(silence(12), speech(1, 10), silence(7))
    talk.send(sound)
    assert talk.audio_ms > 20_000
    talk.end()
    assert talk.audio_ms == pytest.approx(len(sound) / 16, abs=33)


def test_words_are_left_out_where_nobody_asked_for_them() -> None:
    talk = Talk(has_words=False)
    talk.send(joined(speech(1, 3), silence(1)))
    assert talk.text == text_of(1, 3)
    assert all(segment.words is None for segment in talk.shown.values())
    assert all(window.listening.has_words for window in talk.windows)


def test_a_language_that_was_found_out_is_kept() -> None:
    talk = Talk(language=None)
    talk.send(speech(1, 30))
    assert talk.windows[0].language is None
    assert talk.windows[-1].language == "en"
    assert all(piece.language == "en" for piece in talk.pieces if isinstance(piece, Heard) and piece.segments)


def test_the_prompt_goes_with_every_window_and_the_text_before_with_what_was_cut_off() -> None:
    talk = Talk(prompt="some names")
    talk.send(joined(speech(1, 60), silence(1), speech(61, 2), silence(1)))
    assert talk.windows[0].prompt_token_ids == [4, 5]
    assert len(next(each for each in talk.windows if each.start_s > 10).prompt_token_ids) > 10
    assert talk.windows[-1].prompt_token_ids == [4, 5]


def test_half_a_sample_waits_for_its_other_half() -> None:
    talk = Talk()
    data = np.rint(speech(1, 3) * 32768).astype("<i2").tobytes()
    for start in range(0, len(data), 333):
        talk.feed(AudioChunk(request_id="r", data=data[start : start + 333]))
    talk.end()
    assert talk.text == text_of(1, 3)


def test_sound_that_is_far_ahead_is_refused() -> None:
    talk = Talk()
    with pytest.raises(RequestRefused, match="ahead"):
        talk.send(speech(1, 330), is_heard=False)


def test_a_gap_is_behind_a_certain_word() -> None:
    words = [
        Word(word=f" {n}", start=start, end=end, probability=1)
        for n, start, end in ((1, 0.0, 0.5), (2, 0.6, 1.0), (3, 1.5, 2.0), (4, 2.9, 3.0), (5, 9.0, 9.5))
    ]
    gap = widest_gap(Confirmation(words[:3], words[3:]))
    assert gap is not None
    assert (gap.num_words, round(gap.at_s, 6)) == (3, 2.45)
    assert widest_gap(Confirmation([], words)) is None
    alone = widest_gap(Confirmation(words[:1]))
    assert alone is not None
    assert (alone.num_words, alone.at_s) == (1, 0.5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.floats(0, 3)), min_size=1, max_size=6), st.floats(0.05, 0.9))
def test_whatever_the_pauses_and_pieces_every_word_is_there_once(
    parts: list[tuple[int, float]], chunk_s: float
) -> None:
    talk = Talk()
    said = 0
    for num_words, pause_s in parts:
        talk.send(joined(speech(said + 1, num_words), silence(pause_s)), chunk_s)
        said += num_words
    talk.end()
    assert talk.text == text_of(1, said)
