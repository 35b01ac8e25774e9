"""The fields of a request with a sound file, and what they come to: each is carried out, or refused by its name.

Models that other servers have for parts of the work (where speech is, when a word is said, who speaks) are known by
name; what is not here is refused, and where it would have nothing to do it is told as ignored.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from appliance.api.data.generation import invalid
from runtime.tasks.speech import Preprocessing

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
TimedFormat = Literal["srt", "verbose_json", "vtt"]
VadModel = Literal["silero", "whisperx-pyannet"]
AlignmentModel = Literal["whisper", "mms_fa", "tdnn_ffn", "gentle"]

VAD_MODEL = "silero"
ALIGNMENT_MODEL = "whisper"
"""The speech model's own attention."""
GRANULARITIES = ("word", "segment")
TEMPERATURES_MAX = 8
CLIP_S_MIN, CLIP_S_MAX = 1.0, 30.0
"""A model of the family hears no more at once, whatever longer a client allows."""


class SoundFields(msgspec.Struct, kw_only=True):
    """Of every route."""

    model: str | None = None
    language: str | None = None
    """A code such as `en`, or its English name; left out: found out."""
    vad_model: VadModel | None = None
    alignment_model: AlignmentModel | None = None
    """`whisper`, the default, takes words' times from the speech model itself."""
    preprocessing: Preprocessing = "none"


class ListeningFields(SoundFields, kw_only=True):
    """Of those that make text of speech."""

    prompt: str | None = None
    """Text that came before."""
    temperature: str | None = None
    """A number from 0 to 1, or several with commas between: the next is taken when the text is not good enough."""
    response_format: Format = "json"
    timestamp_granularities: str | None = None
    """`word`, `segment`, or both with a comma between, or the field `timestamp_granularities[]` once for each; needs
    the format `verbose_json`."""
    skip_vad: bool = False
    """Hear all of it, also where nobody speaks; for less than 30 s."""
    max_clip_len: Annotated[float, msgspec.Meta(ge=CLIP_S_MIN)] | None = None
    """Seconds that are heard as one at most."""
    stream: bool = False
    """Server-sent events, as segments are heard; with the formats json, text and verbose_json."""
    chunking_strategy: str | None = None
    include: str | None = None


class TranscriptionFields(ListeningFields, kw_only=True):
    diarize: bool = False
    diarization_model: str | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    known_speaker_names: str | None = None
    known_speaker_references: str | None = None
    keywords: str | None = None
    languages: str | None = None


class TranslationFields(ListeningFields, kw_only=True):
    pass


class AlignmentFields(SoundFields, kw_only=True):
    text: str
    """What is said."""
    response_format: TimedFormat = "verbose_json"


def granularities(fields: ListeningFields) -> frozenset[str]:
    """What is timed in the answer."""
    text = fields.timestamp_granularities
    if text is None:
        return frozenset({"segment"})
    if fields.response_format != "verbose_json":
        raise invalid("timestamp_granularities", "needs response_format to be verbose_json")
    named = frozenset(word.strip() for word in text.split(","))
    if not named <= frozenset(GRANULARITIES):
        raise invalid("timestamp_granularities", f"must be of {', '.join(GRANULARITIES)}")
    return named


def temperatures(text: str | None) -> list[float]:
    """To be tried in turn; empty: nothing was said."""
    if text is None:
        return []
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(0 <= value <= 1 for value in values):
        raise invalid("temperature", "must be a number from 0 to 1, or several with commas between")
    if len(values) > TEMPERATURES_MAX:
        raise invalid("temperature", f"at most {TEMPERATURES_MAX} of them")
    return values


def clip_s(fields: ListeningFields) -> float | None:
    return None if fields.max_clip_len is None else min(fields.max_clip_len, CLIP_S_MAX)


def check_listening(fields: ListeningFields) -> None:
    """Refuse what is not done here."""
    if fields.include is not None:
        raise invalid("include", "the model says nothing of that kind beside the text")
    if fields.chunking_strategy not in (None, "auto"):
        raise invalid("chunking_strategy", "must be auto: sound is cut where nobody speaks")
    if fields.stream and fields.response_format in ("srt", "vtt"):
        raise invalid("stream", "needs response_format to be json, text or verbose_json")
    if isinstance(fields, TranscriptionFields):
        _check_speakers(fields)
        for name in ("keywords", "languages"):
            if getattr(fields, name) is not None:
                raise invalid(name, "is not served; use prompt and language")


def _check_speakers(fields: TranscriptionFields) -> None:
    if fields.diarize:
        raise invalid("diarize", "no model that tells speakers apart is installed here")
    for name in ("min_speakers", "max_speakers", "known_speaker_names", "known_speaker_references"):
        if getattr(fields, name) is not None:
            raise invalid(name, "needs diarize, and no model that tells speakers apart is installed here")


def check_models(fields: SoundFields, has_words: bool, replaced: Sequence[str]) -> list[str]:
    """The fields that have no effect; raises `invalid` for a model that would have one and is not here."""
    ignored = []
    if fields.vad_model not in (None, VAD_MODEL):
        raise invalid("vad_model", f"{fields.vad_model} is not installed here; there is {VAD_MODEL}")
    if fields.alignment_model not in (None, ALIGNMENT_MODEL):
        if has_words and fields.alignment_model not in replaced:
            message = f"{fields.alignment_model} is not installed here; there is {ALIGNMENT_MODEL}, the default"
            raise invalid("alignment_model", f"{message} (setting replaced_alignment_models)")
        ignored.append("alignment_model")
    if isinstance(fields, TranscriptionFields) and fields.diarization_model is not None:
        ignored.append("diarization_model")
    return ignored
