import pytest

from appliance.api.data.speech_answer import HeardText, Shape
from appliance.errors import HearthError
from runtime.tasks.embedding import Scored
from runtime.tasks.speech import Segment, Transcribed
from tests.fakes.scripted_speech import segment_of


def heard(shape: Shape, *segments: Segment) -> HeardText:
    text = HeardText(shape)
    text.add(Transcribed(request_id="r", segments=list(segments), language="de", duration_s=2.25))
    text.add(Transcribed(request_id="r", is_last=True))
    return text


def test_what_is_said_once_holds_for_all_pieces() -> None:
    text = heard(Shape(format="json"), segment_of(0, " a", False), segment_of(1, " b ", False))
    assert (text.text, text.language, text.duration_s, text.usage.seconds) == ("a b", "de", 2.25, 2.25)


def test_silence_is_an_answer_too() -> None:
    verbose = heard(Shape(format="verbose_json", granularities=frozenset({"word", "segment"}))).verbose()
    assert (verbose.text, verbose.words, verbose.segments) == ("", [], [])


def test_words_are_shown_to_those_who_asked() -> None:
    segment = segment_of(0, " a b", has_words=True)
    silent = heard(Shape(format="verbose_json"), segment).verbose()
    assert silent.words is None
    assert silent.segments
    assert silent.segments[0].words is None
    shown = heard(Shape(format="verbose_json", granularities=frozenset({"word"})), segment).verbose()
    assert shown.words
    assert [word.word for word in shown.words] == ["a", "b"]
    assert shown.segments is None


def test_a_segment_is_likely_no_speech_when_both_signs_say_so() -> None:
    text = heard(Shape(format="verbose_json"))
    for no_speech_prob, avg_logprob, expected in [(0.7, -1.5, True), (0.7, -0.5, False), (0.5, -1.5, False)]:
        segment = Segment(
            id=0, seek=0, start=0.0, end=1.0, text="a", no_speech_prob=no_speech_prob, avg_logprob=avg_logprob
        )
        assert text.timed(segment).no_speech == expected


def test_retries_are_the_temperatures_before_the_one_that_was_good() -> None:
    text = heard(Shape(format="verbose_json", temperatures=[0.0, 0.2, 0.4]))
    assert text.timed(segment_of(0, "a", False)).retry_count == 1
    assert heard(Shape(format="verbose_json")).timed(segment_of(0, "a", False)).retry_count == 0


def test_an_answer_to_something_else_is_a_fault() -> None:
    with pytest.raises(HearthError, match="something else"):
        HeardText(Shape(format="json")).add(Scored(request_id="r", first_index=0, scores=[]))
