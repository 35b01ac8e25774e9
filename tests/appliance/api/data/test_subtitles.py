"""Subtitles, read back by a public parser."""

import html
import io

import webvtt

from appliance.api.data.subtitles import to_srt, to_vtt
from runtime.tasks.speech import Segment

TEXTS = [" Hello there.", "Two\n\nlines", " 12", " <i>a</i> & b --> c", " ", "ünïcode 你好"]
SHOWN = ["Hello there.", "Two lines", "12", "<i>a</i> & b --> c", "ünïcode 你好"]


def segments() -> list[Segment]:
    return [
        Segment(id=index, seek=0, start=3599.5 * index, end=3599.5 * index + 1.2345, text=text)
        for index, text in enumerate(TEXTS)
    ]


def test_vtt_is_read_back_as_it_was_written() -> None:
    captions = webvtt.from_string(to_vtt(segments())).captions
    assert [html.unescape(caption.raw_text) for caption in captions] == SHOWN
    assert (captions[0].start, captions[0].end) == ("00:00:00.000", "00:00:01.234")
    assert captions[2].start == "01:59:59.000"


def test_srt_is_read_back_as_it_was_written() -> None:
    captions = webvtt.from_buffer(io.StringIO(to_srt(segments())), format="srt").captions
    assert [caption.raw_text for caption in captions] == [text.replace("-->", "->") for text in SHOWN]
    assert (captions[1].start, captions[1].end) == ("00:59:59.500", "01:00:00.734")


def test_nothing_was_said() -> None:
    assert to_srt([]) == ""
    assert to_vtt([]) == "WEBVTT\n"
    assert not webvtt.from_string(to_vtt([])).captions


def test_long_files_have_times_beyond_a_day() -> None:
    late = Segment(id=0, seek=0, start=360000.0, end=360001.0, text="late")
    assert to_srt([late]).splitlines()[1] == "100:00:00,000 --> 100:00:01,000"
