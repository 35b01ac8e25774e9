"""Segments as subtitles, in SubRip's and WebVTT's forms. Pure."""

from collections.abc import Iterable, Sequence

from runtime.tasks.speech import Segment

_ARROW = "-->"
"""Parts the times of a cue, so that no text may hold it."""
_VTT_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_srt(segments: Sequence[Segment]) -> str:
    cues = [
        f"{number}\n{_time(segment.start, ',')} {_ARROW} {_time(segment.end, ',')}\n{_line(segment.text)}\n"
        for number, segment in enumerate(_shown(segments), start=1)
    ]
    return "\n".join(cues)


def to_vtt(segments: Sequence[Segment]) -> str:
    cues = [
        f"{_time(segment.start, '.')} {_ARROW} {_time(segment.end, '.')}\n{_line(segment.text, is_vtt=True)}\n"
        for segment in _shown(segments)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _shown(segments: Iterable[Segment]) -> Iterable[Segment]:
    return (segment for segment in segments if segment.text.strip())


def _line(text: str, is_vtt: bool = False) -> str:
    """On one line: an empty one would end the cue."""
    line = " ".join(text.split())
    return line.translate(_VTT_ENTITIES) if is_vtt else line.replace(_ARROW, "->")


def _time(seconds: float, mark: str) -> str:
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"
