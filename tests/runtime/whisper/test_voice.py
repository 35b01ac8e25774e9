from itertools import pairwise

import numpy as np
from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps

from runtime.whisper.voice import Clip, Stretch, as_float, cut, find_speech, pack
from runtime.whisper.windows import SAMPLE_RATE
from tests.fakes.tiny_whisper import speech


def recorded(duration_s: float, pause_s: float = 0.5) -> "np.ndarray[tuple[int], np.dtype[np.int16]]":
    return (speech(duration_s, pause_s=pause_s) * 32767).astype(np.int16)


def test_speech_is_found_where_faster_whisper_finds_it() -> None:
    samples = recorded(40)
    options = VadOptions(max_speech_duration_s=30, min_silence_duration_ms=160)
    expected = get_speech_timestamps(as_float(samples), options)
    assert find_speech(samples, 30) == [Stretch(one["start"], one["end"]) for one in expected]


def test_clips_are_those_of_faster_whisper() -> None:
    samples = recorded(75)
    stretches = find_speech(samples, 30)
    chunks = [{"start": one.start, "end": one.end} for one in stretches]
    expected, described = collect_chunks(as_float(samples), chunks, max_duration=30)
    clips = pack(stretches, 30)
    assert len(clips) > 1
    assert [clip.start / SAMPLE_RATE for clip in clips] == [one["offset"] for one in described]
    for clip, sound in zip(clips, expected, strict=True):
        np.testing.assert_array_equal(cut(samples, clip), sound)


def test_a_stretch_at_the_end_of_a_block_is_not_cut_there() -> None:
    samples = recorded(40)
    blocks = find_speech(samples, 30, block_s=15)
    assert all(first.end <= second.start for first, second in pairwise(blocks))
    whole = find_speech(samples, 30)
    assert len(blocks) == len(whole)
    for one, other in zip(blocks, whole, strict=True):
        assert abs(one.start - other.start) < 0.5 * SAMPLE_RATE
        assert abs(one.end - other.end) < 0.5 * SAMPLE_RATE


def test_silence_holds_no_speech() -> None:
    assert find_speech(np.zeros(SAMPLE_RATE * 3, dtype=np.int16), 30) == []
    assert find_speech(np.zeros(0, dtype=np.int16), 30) == []
    assert pack([], 30) == []


def test_no_clip_is_longer_than_was_asked_for() -> None:
    clips = pack(find_speech(recorded(40), 5), 5)
    assert len(clips) > 6
    assert all(clip.num_samples <= 5 * SAMPLE_RATE for clip in clips)


def test_a_clip_leaves_out_what_is_between_its_stretches() -> None:
    samples = np.arange(100, dtype=np.int16)
    clip = Clip([Stretch(10, 12), Stretch(50, 51)], 0)
    assert clip.num_samples == 3
    np.testing.assert_array_equal(cut(samples, clip) * 32768, [10, 11, 50])
