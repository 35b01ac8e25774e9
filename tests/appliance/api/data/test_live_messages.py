"""What a client's messages mean, and what it is told."""

import json

import pytest

from appliance.api.data.live_messages import read_sound, read_text, render
from appliance.errors import Code, HearthError
from runtime.tasks.speech import AudioChunk, Cleared, ClearState, Heard, Segment, Trace, Traced, Transcribed, Word

WORDS = [
    Word(word=" Hello", start=0.1234, end=0.5, probability=0.5, is_final=True),
    Word(word=" there", start=0.5, end=1.0, probability=0.25, is_final=False),
]
HEARD = Heard(
    request_id="r",
    language="en",
    segments=[
        Segment(id=3, seek=0, start=0.1234, end=1.0, text=" Hello there", words=WORDS),
        Segment(id=4, seek=0, start=2.0, end=2.0, text="", words=[]),
    ],
)


def told(granularities: set[str]) -> dict[str, object]:
    message = render(HEARD, frozenset(granularities))
    assert message is not None
    decoded: dict[str, object] = json.loads(message)
    return decoded


def test_sound_goes_as_it_came() -> None:
    assert read_sound("r", b"\0\1") == AudioChunk(request_id="r", data=b"\0\1")


def test_a_state_is_cleared_and_answered_with_its_id() -> None:
    item = read_text("r", '{"event_id": "e", "object": "stt.state.clear", "reset_id": "x"}')
    assert item == ClearState(request_id="r", reset_id="x")
    answer = json.loads(render(Cleared(request_id="r", reset_id="x"), frozenset()) or b"")
    assert answer.pop("event_id")
    assert answer == {"object": "stt.state.cleared", "reset_id": "x"}


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ({"object": "stt.input.trace", "trace_id": "final"}, {"object": "stt.output.trace", "trace_id": "final"}),
        ({"checkpoint_id": "final"}, {"checkpoint_id": "final"}),
        ({"checkpoint_id": "trace:1"}, {"checkpoint_id": "trace:1"}),
    ],
)
def test_a_trace_comes_back_in_the_form_in_which_it_was_sent(sent: dict[str, str], answered: dict[str, str]) -> None:
    trace = read_text("r", json.dumps(sent))
    assert isinstance(trace, Trace)
    answer = json.loads(render(Traced(request_id="r", trace_id=trace.trace_id), frozenset()) or b"")
    assert answer.pop("event_id", None) or "checkpoint_id" in answer
    assert answer == answered


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("{}", "object"),
        ('{"object": "stt.other"}', "object"),
        ('{"object": "stt.state.clear"}', "reset_id"),
        ('{"object": "stt.input.trace", "reset_id": "x"}', "trace_id"),
        ('{"object": "stt.input.trace", "trace_id": 7}', "trace_id"),
        ('{"checkpoint_id": "' + "x" * 257 + '"}', "checkpoint_id"),
        ("[]", None),
        ("nonsense", None),
        ("\ud800", None),
        ("[" * 100_000, None),
    ],
)
def test_anything_else_is_refused_naming_the_field(text: str, param: str | None) -> None:
    with pytest.raises(HearthError) as refusal:
        read_text("r", text)
    assert refusal.value.code is Code.INVALID
    assert refusal.value.param == param


def test_without_granularities_segments_are_text_alone() -> None:
    assert told(set()) == {
        "task": "transcribe",
        "language": "en",
        "text": "Hello there",
        "words": None,
        "segments": [{"id": "3", "text": "Hello there"}, {"id": "4", "text": ""}],
    }


def test_times_of_segments_come_where_they_are_asked_for() -> None:
    assert told({"segment"})["segments"] == [
        {"id": "3", "text": "Hello there", "start": 0.123, "end": 1.0},
        {"id": "4", "text": "", "start": 2.0, "end": 2.0},
    ]


def test_words_say_whether_they_are_final() -> None:
    message = told({"word"})
    words = message["words"]
    assert isinstance(words, list)
    assert words[0] == {
        "word": "Hello",
        "start": 0.123,
        "end": 0.5,
        "language": "en",
        "probability": 0.5,
        "hallucination_score": None,
        "is_final": True,
    }
    assert [word["is_final"] for word in words] == [True, False]
    segments = message["segments"]
    assert isinstance(segments, list)
    assert segments[0]["words"] == words


def test_what_is_only_metered_is_not_told() -> None:
    assert render(Heard(request_id="r", segments=[]), frozenset()) is None


def test_a_worker_that_answers_something_else_is_at_fault() -> None:
    with pytest.raises(HearthError) as failure:
        render(Transcribed(request_id="r"), frozenset())
    assert failure.value.code is Code.INTERNAL
