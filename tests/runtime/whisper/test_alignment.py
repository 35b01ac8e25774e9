import itertools
from time import process_time

import numpy as np
import pytest

from runtime.engine import RequestRefused
from runtime.tasks.speech import Segment, Transcribed, Word
from runtime.whisper.alignment import AlignSource, segments_of, share_out
from runtime.whisper.voice import Clip, Stretch
from runtime.whisper.windows import SAMPLE_RATE, WindowText


def test_each_clip_gets_the_words_that_were_heard_in_it() -> None:
    text = "Alpha beta gamma, delta. Epsilon zeta eta theta!"
    parts = share_out(text, ["alpha beta gamma delta", "epsilon zeta eta theta"], [1, 1])
    assert parts == ["Alpha beta gamma, delta. ", "Epsilon zeta eta theta!"]


def test_words_heard_wrong_lie_between_those_heard_right() -> None:
    text = "one two three four five six seven eight"
    parts = share_out(text, ["one too free four", "fife six servant eight"], [1, 1])
    assert parts == ["one two three four ", "five six seven eight"]


def test_where_nothing_was_heard_time_decides() -> None:
    assert share_out("a b c d", ["", "", ""], [16_000 * 3600, 16_000 * 3600, 0]) == ["a b ", "c d", ""]
    assert share_out("a b c d", ["", "a b c d"], [1, 1]) == ["", "a b c d"]
    assert share_out("...", ["", "x"], [1, 1]) == ["...", ""]


def test_parts_make_up_the_whole_text() -> None:
    text = "  Twice, is twice; and\nonce is once.  "
    for heard in (["twice is", "twice and once", "is once"], ["nothing", "of", "it"], ["", "twice", ""]):
        assert "".join(share_out(text, heard, [1, 2, 3])) == text


def test_characters_are_words_where_there_are_no_spaces() -> None:
    assert share_out("炉火は暖かい", ["炉火は", "暖かい"], [1, 1]) == ["炉火は", "暖かい"]


def test_an_hour_of_text_is_shared_out_in_no_time() -> None:
    draw = np.random.default_rng(0)
    words = [f"w{int(draw.pareto(1.0) * 20)}" for _ in range(9_000)]
    heard = [
        " ".join(word for word in words[start : start + 75] if draw.random() < 0.8) for start in range(0, 9_000, 75)
    ]
    began = process_time()
    parts = share_out(" ".join(words), heard, [1] * len(heard))
    assert process_time() - began < 1
    assert sum(len(part.split()) == 75 for part in parts) > len(parts) // 2


def words_of(*texts: str) -> list[Word]:
    return [Word(word=text, start=index, end=index + 0.5, probability=1) for index, text in enumerate(texts)]


def test_segments_are_sentences_or_the_lines_of_the_text() -> None:
    told = segments_of(words_of(" One", " two.", " Three", ' four!"', " five"), 'One two. Three four!" five')
    assert [(one.id, one.text, one.start, one.end) for one in told] == [
        (1, " One two.", 0, 1.5),
        (2, ' Three four!"', 2, 3.5),
        (3, " five", 4, 4.5),
    ]
    told = segments_of(words_of(" One", " two.", " Three"), "One\ntwo. Three\n")
    assert [one.text for one in told] == [" One", " two. Three"]
    assert segments_of([], "One") == []


def source_of(text: str, *durations_s: float, language: str | None = "en") -> AlignSource:
    ends = [0, *(int(end * SAMPLE_RATE) for end in np.cumsum(durations_s))]
    clips = [Clip([Stretch(start, end)], start) for start, end in itertools.pairwise(ends)]
    samples = np.zeros(ends[-1], dtype=np.int16)
    return AlignSource("a", "t", samples, clips, text, language, lambda part: len(part.split()), 100)


def said(text: str, start: float) -> WindowText:
    words = [Word(word=" " + one, start=start, end=start, probability=1) for one in text.split()]
    return WindowText([Segment(id=0, seek=0, start=start, end=start, text=text, words=words)], "en", 1.0)


def test_short_speech_is_aligned_at_once() -> None:
    source = source_of("One two. Three.", 10)
    assert source.start() == []
    window = source.next_window()
    assert window is not None
    assert window.known_text == "One two. Three."
    assert not source.has_window
    (piece,) = source.take(said("One two. Three.", 1.0))
    assert isinstance(piece, Transcribed)
    assert piece.is_last
    assert source.is_finished
    assert [segment.text for segment in piece.segments] == [" One two.", " Three."]
    assert piece.used.audio_ms == 10_000


def test_long_speech_is_heard_before_it_is_aligned() -> None:
    source = source_of("One two. Three.", 25, 25, language=None)
    first = source.next_window()
    assert first is not None
    assert first.known_text is None
    assert not source.has_window, "until its language is known"
    assert source.take(said("one two", 0.0)) == []
    second = source.next_window()
    assert second is not None
    assert second.language == "en"
    assert source.take(said("three", 25.0)) == []
    parts = [source.next_window(), source.next_window()]
    assert [window and window.known_text for window in parts] == ["One two. ", "Three."]
    assert source.next_window() is None
    assert source.take(said("One two.", 0.0)) == []
    (piece,) = source.take(said("Three.", 26.0))
    assert isinstance(piece, Transcribed)
    assert [(one.text, one.start) for one in piece.segments] == [(" One two.", 0.0), (" Three.", 26.0)]


def test_what_cannot_be_aligned_is_refused() -> None:
    with pytest.raises(RequestRefused, match="no speech"):
        source_of("One").start()
    with pytest.raises(RequestRefused, match="101 tokens") as refusal:
        source_of("one " * 101, 10).start()
    assert refusal.value.param == "text"
