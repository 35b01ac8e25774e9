from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from faster_whisper import BatchedInferencePipeline
from numpy.typing import NDArray

from runtime.protocol import AnyPiece
from runtime.tasks.speech import Listening, Segment, Transcribed, Word
from runtime.whisper.file_source import FileSource, telling_clip
from runtime.whisper.hearing import Hearing, LastSpeech
from runtime.whisper.voice import Clip, Stretch, find_speech, pack
from runtime.whisper.windows import SAMPLE_RATE, Source, Window, WindowText
from tests.fakes.tiny_whisper import speech

ENGLISH = Listening(language="en")


@cache
def recorded(duration_s: float, *, seed: int = 0, pause_s: float = 0.5) -> NDArray[np.int16]:
    return (speech(duration_s, seed=seed, pause_s=pause_s) * 32767).astype(np.int16)


def source_of(samples: NDArray[np.int16], listening: Listening, *, prompt: Sequence[int] = ()) -> FileSource:
    return FileSource("a", "tenant", samples, pack(find_speech(samples, 30), 30), listening, list(prompt))


def hear_all(source: Source, hearing: Hearing, batch_size: int) -> list[AnyPiece]:
    """As the engine does, with no one else there."""
    pieces = source.start()
    ends: dict[str, float] = {}
    while not source.is_finished:
        windows: list[Window] = []
        while len(windows) < batch_size and (window := source.next_window()) is not None:
            windows.append(window)
        assert windows, "it waits for nothing"
        for text in hearing.hear(windows, LastSpeech(["a"] * len(windows), ends)):
            pieces += source.take(text)
    return pieces


def segments_in(pieces: Sequence[AnyPiece]) -> list[Segment]:
    return [segment for piece in pieces if isinstance(piece, Transcribed) for segment in piece.segments]


def expected(oracle: BatchedInferencePipeline, samples: NDArray[np.int16], **options: Any) -> list[Segment]:
    """What faster-whisper makes of it; segments without text are left out."""
    told, _ = oracle.transcribe(
        samples.astype(np.float32) / 32768, without_timestamps=False, temperature=0.0, **options
    )
    said = [segment for segment in told if segment.text.strip()]
    return [
        Segment(
            id=index,
            seek=segment.seek,
            start=segment.start,
            end=segment.end,
            text=segment.text,
            token_ids=segment.tokens,
            temperature=0.0,
            avg_logprob=segment.avg_logprob,
            compression_ratio=segment.compression_ratio,
            no_speech_prob=segment.no_speech_prob,
            words=segment.words
            and [
                Word(word=word.word, start=float(word.start), end=float(word.end), probability=float(word.probability))
                for word in segment.words
            ],
        )
        for index, segment in enumerate(said, start=1)
    ]


def rounded(segments: Sequence[Segment]) -> list[object]:
    """All of it, but probabilities to some digits: the last ones depend on how many windows a batch holds."""
    told: list[object] = []
    for segment in segments:
        words = [(word.word, word.start, word.end, round(word.probability, 4)) for word in segment.words or []]
        scores = segment.avg_logprob, segment.compression_ratio, segment.no_speech_prob
        told.append((segment.id, segment.seek, segment.start, segment.end, segment.text, segment.token_ids))
        told.append((segment.temperature, [round(score, 4) for score in scores], segment.words is None, words))
    return told


@pytest.mark.parametrize(
    ("listening", "options"),
    [
        (ENGLISH, {"language": "en"}),
        (Listening(language="de", has_words=True), {"language": "de", "word_timestamps": True}),
        (Listening(language="fr", is_translated=True), {"language": "fr", "task": "translate"}),
        (Listening(language="en", prompt="the hearth"), {"language": "en", "initial_prompt": "the hearth"}),
        (Listening(has_words=True), {"word_timestamps": True}),
    ],
    ids=["text", "words", "translation", "prompt", "found-out"],
)
def test_a_file_is_heard_as_by_faster_whisper(
    hearing: Hearing, oracle: BatchedInferencePipeline, listening: Listening, options: dict[str, Any]
) -> None:
    samples = recorded(35)
    prompt = oracle.model.hf_tokenizer.encode(listening.prompt).ids if listening.prompt else []
    source = source_of(samples, listening, prompt=prompt)
    told = segments_in(hear_all(source, hearing, batch_size=8))
    assert rounded(told) == rounded(expected(oracle, samples, batch_size=8, **options))
    assert len({segment.seek for segment in told}) > 1, "the file is longer than a window"


def test_the_found_language_is_faster_whispers(hearing: Hearing, oracle: BatchedInferencePipeline) -> None:
    samples = recorded(12)
    _, info = oracle.transcribe(samples.astype(np.float32) / 32768, without_timestamps=False)
    (piece,) = hear_all(source_of(samples, Listening()), hearing, batch_size=1)
    assert isinstance(piece, Transcribed)
    assert piece.language == info.language
    assert piece.language_probability == pytest.approx(info.language_probability, abs=0.05)


def test_batches_of_any_size_say_the_same(hearing: Hearing) -> None:
    samples = recorded(35)
    alone = segments_in(hear_all(source_of(samples, ENGLISH), hearing, batch_size=1))
    together = segments_in(hear_all(source_of(samples, ENGLISH), hearing, batch_size=3))
    assert [segment.text for segment in alone] == [segment.text for segment in together]


def test_pieces_come_in_the_order_of_time_and_meter_all_of_the_file(hearing: Hearing) -> None:
    samples = recorded(35)
    pieces = hear_all(source_of(samples, Listening()), hearing, batch_size=1)
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) > 1
    assert sum(piece.used.audio_ms for piece in pieces) == 35_000
    assert all(piece.used.audio_ms > 0 for piece in pieces)
    ids = [segment.id for segment in segments_in(pieces)]
    assert ids == list(range(1, len(ids) + 1))


def test_times_are_those_of_the_file_where_silence_was_left_out(hearing: Hearing) -> None:
    silence = np.zeros(20 * SAMPLE_RATE, dtype=np.int16)
    samples = np.concatenate([silence, recorded(10)])
    told = segments_in(hear_all(source_of(samples, Listening(language="en", has_words=True)), hearing, batch_size=1))
    assert told
    assert all(19 < segment.start <= segment.end <= 52 for segment in told)


def test_a_file_without_speech_is_answered_without_a_window() -> None:
    source = source_of(np.zeros(5 * SAMPLE_RATE, dtype=np.int16), Listening())
    (piece,) = source.start()
    assert isinstance(piece, Transcribed)
    assert piece.is_last
    assert piece.segments == []
    assert piece.duration_s == 5.0
    assert piece.used.audio_ms == 5000
    assert source.is_finished
    assert not source.has_window


def clips_of(*durations_s: float) -> list[Clip]:
    ends = np.cumsum([0, *durations_s]) * SAMPLE_RATE
    return [Clip([Stretch(int(start), int(end))], int(start)) for start, end in pairwise(ends)]


def test_the_language_is_told_by_the_first_clip_that_is_long_enough() -> None:
    assert telling_clip([]) is None
    assert telling_clip(clips_of(3)) == 0
    assert telling_clip(clips_of(3, 20, 30)) == 1
    assert telling_clip(clips_of(3, 5, 4, 30)) == 1


def test_no_other_clip_is_heard_before_the_language_is_known() -> None:
    samples = np.zeros(60 * SAMPLE_RATE, dtype=np.int16)
    source = FileSource("a", "t", samples, clips_of(3, 20, 30), Listening(), [])
    first = source.next_window()
    assert first is not None
    assert first.start_s == 3.0
    assert not source.has_window
    assert source.next_window() is None
    assert source.take(WindowText([], "de", 0.9)) == [], "what is before it was not heard yet"
    second = source.next_window()
    assert second is not None
    assert (second.start_s, second.language) == (0.0, "de")
    (piece,) = source.take(WindowText([], "de", 1.0))
    assert piece.used.audio_ms == 23_000
