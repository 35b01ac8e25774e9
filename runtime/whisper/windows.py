"""What the engine hears in one go, a window of at most 30 s, and who gives it windows: the sources.

A source is one request: a file, or a conversation as it is spoken. It cuts its sound into windows and makes pieces of
the answer of what was heard; the engine decides whose windows are heard together. Sources run on the engine's thread.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.protocol import AnyPiece
from runtime.tasks.speech import Listening, Segment

SAMPLE_RATE = 16_000
WINDOW_S = 30.0
"""What the model hears at once; shorter windows are followed by silence."""

Samples = NDArray[np.float32]
"""Mono, 16 kHz, -1 to 1."""


class Window(NamedTuple):
    samples: Samples
    start_s: float
    """Where it begins on the source's own clock, on which the times of what was heard are given."""
    listening: Listening
    prompt_token_ids: list[int]
    """Text before it, without special tokens; the engine keeps the last of it that fit (223)."""
    language: str | None = None
    """As the model knows it; None: found out of this window."""
    known_text: str | None = None
    """It is not found out, only when each of its words is said; None: the model listens."""
    last_speech_s: float | None = None
    """When speech was heard before, on the source's clock; None: as in the source's windows before this one.

    Only words' times depend on it: after a pause the first word is not stretched over the pause.
    """


class WindowText(NamedTuple):
    """What was heard in a window."""

    segments: list[Segment]
    """In the order of time; with `Listening.has_words`, or a known text, each has its words. Ids are all 0."""
    language: str
    language_probability: float
    """1 where the language was told."""


class Source(Protocol):
    request_id: str
    tenant: str

    @property
    def is_finished(self) -> bool:
        """Whether its last piece was said."""

    @property
    def has_window(self) -> bool:
        """Whether `next_window` would give one now; cheap, and asked often."""

    def next_window(self) -> Window | None:
        """To be heard now; None: nothing until something was fed or taken. Called until it is None or a batch is full.

        Windows are heard, and `take` is called, in the order in which they were given; several may be on their way.
        """

    def take(self, text: WindowText) -> list[AnyPiece]:
        """What was heard in the eldest window that was given and not taken yet. May raise RequestRefused."""

    def feed(self, item: Any) -> list[AnyPiece]:
        """A later part of the request; a file has none. Pieces that need no listening are answered at once."""

    def start(self) -> list[AnyPiece]:
        """Called once, when the engine takes it up; a file without any speech is answered here."""
