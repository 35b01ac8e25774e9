"""What is asked of an engine that listens, and its answers. Imports msgspec and the standard library only.

Sound follows its task as AudioChunks: of a file, whose decoding is the worker's; of a conversation, as it is spoken.
"""

from typing import Literal

from runtime.message import FollowUp, Piece, Task, Value

Preprocessing = Literal["none", "dynamic", "soft_dynamic", "bass_dynamic"]


class Listening(Value, frozen=True, kw_only=True):
    """How speech becomes text."""

    language: str | None = None
    """Code as Whisper knows it; None: found out."""
    is_translated: bool = False
    """Into English."""
    prompt: str = ""
    """Text that came before, as far as the model is concerned."""
    temperatures: list[float] = []
    """Tried in turn until the text is good enough; empty: 0 alone."""
    has_words: bool = False
    """Whether words get times of their own."""


class Transcribe(Task, frozen=True, kw_only=True):
    """A sound file, which follows in AudioChunks. Answered by Transcribed pieces in the order of time."""

    listening: Listening
    num_bytes: int
    """Of the file."""
    sha256: str = ""
    """Of the file: what tells tasks apart that are otherwise alike. Nobody compares it with the bytes."""
    cuts_by_voice: bool = True
    """Leave out what is no speech; False only for less than 30 s."""
    preprocessing: Preprocessing = "none"
    max_clip_s: float | None = None
    """Longest stretch that is heard as one; None: the model's 30 s."""


class Align(Task, frozen=True, kw_only=True):
    """When which word of a known text is said in a sound file; answered like Transcribe, with words."""

    text: str
    num_bytes: int
    sha256: str = ""
    """Of the file: what tells tasks apart that are otherwise alike. Nobody compares it with the bytes."""
    language: str | None = None
    preprocessing: Preprocessing = "none"


class Listen(Task, frozen=True, kw_only=True):
    """A conversation as it is spoken: AudioChunks of 16 kHz mono little-endian int16. Answered by Heard pieces."""

    listening: Listening


class AudioChunk(FollowUp, frozen=True, kw_only=True):
    data: bytes
    is_last: bool = False


class Trace(FollowUp, frozen=True, kw_only=True):
    """Say when everything before this was heard; answered by Traced."""

    trace_id: str


class ClearState(FollowUp, frozen=True, kw_only=True):
    """Forget what was heard; answered by Cleared, after which segment ids begin again."""

    reset_id: str


class Word(Value, frozen=True, kw_only=True):
    word: str
    """With the space before it, where there is one."""
    start: float
    """Seconds from the beginning of the sound; so is `end`."""
    end: float
    probability: float
    is_final: bool = True
    """Whether it will never change; words of a file never do."""


class Segment(Value, frozen=True, kw_only=True):
    id: int
    seek: int
    """Of the window that it was heard in, in hundredths of a second."""
    start: float
    end: float
    text: str
    token_ids: list[int] = []
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    words: list[Word] | None = None


class Transcribed(Piece, frozen=True, kw_only=True):
    segments: list[Segment] = []
    language: str = ""
    """Said with the first segments; so are the next two."""
    language_probability: float = 0.0
    duration_s: float = 0.0


class Heard(Piece, frozen=True, kw_only=True):
    """What is new or has changed; a segment takes the place of the one with its id."""

    segments: list[Segment]
    language: str = ""


class Traced(Piece, frozen=True, kw_only=True):
    trace_id: str


class Cleared(Piece, frozen=True, kw_only=True):
    reset_id: str
