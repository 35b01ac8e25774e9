"""What is asked of a model that listens: who can do it, in which languages, and what a file may use of a budget.

Knows no wire format, and nothing of sound: a file's format and length are found out by a worker.
"""

from collections.abc import Callable

from msgspec.structs import replace

from appliance.config import SpeechSettings
from appliance.errors import Code, HearthError
from appliance.services.demands import Demand
from appliance.services.languages import CHINESE_SCRIPTS, ENGLISH, language_code
from appliance.services.media_fetch import Resolve, Rules, fetch, resolve_by_system
from appliance.services.prompt_size import PromptSize
from appliance.services.recordings import Recording
from appliance.services.targets import Target
from models.info import WhisperInfo
from runtime.settings import AUDIO_S_MAX
from runtime.tasks.speech import Align, Transcribe

URL_LENGTH_MAX = 8192
BITS_PER_SECOND_MIN = 6000
"""Of speech in the tightest of common formats; a file is no longer than that makes it, and at most AUDIO_S_MAX."""

SoundTask = Transcribe | Align


def for_listener(task: SoundTask, recording: Recording) -> Callable[[Target], SoundTask]:
    """The task with the file that it is about, for whatever can do it."""

    def make_task(target: Target) -> SoundTask:
        if isinstance(task, Transcribe):
            require_listener(target, task.listening.language, task.listening.is_translated)
        else:
            require_listener(target, task.language)
        return replace(task, num_bytes=recording.num_bytes, sha256=recording.sha256)

    return make_task


def demand_of_sound(num_bytes: int) -> Demand:
    """Of a file of this size; how long it lasts is known when it has been decoded."""
    return Demand(PromptSize(0, 0), audio_ms=min(int(AUDIO_S_MAX * 1000), num_bytes * 8 * 1000 // BITS_PER_SECOND_MIN))


def require_listener(target: Target, language: str | None, is_translated: bool = False) -> WhisperInfo:
    """What is known of the model; raises `invalid` when it cannot listen, or not to this."""
    info = target.model.served_info
    if not isinstance(info, WhisperInfo):
        raise HearthError(Code.INVALID, "model: it is none that listens to speech", "model")
    if not info.is_multilingual:
        if is_translated:
            raise HearthError(Code.INVALID, "model: it knows English only, and translates nothing", "model")
        if language not in (None, ENGLISH):
            raise HearthError(Code.INVALID, "language: this model knows English only", "language")
    return info


def to_language(text: str | None) -> str | None:
    """The code that the model knows it by; raises `invalid`."""
    if text is None:
        return None
    if text.lower() in CHINESE_SCRIPTS:
        raise HearthError(Code.INVALID, "language: the script cannot be chosen; send zh", "language")
    code = language_code(text)
    if code is None:
        raise HearthError(Code.INVALID, "language: none that is known; send a code such as en, or nothing", "language")
    return code


def named_url(recording: Recording) -> str | None:
    """Some clients send the URL of a sound file in the file's place; no format of sound begins like one."""
    text = recording.beginning
    if len(text) > URL_LENGTH_MAX or not text[:8].lower().startswith((b"http://", b"https://")):
        return None
    try:
        return text.decode().strip()
    except UnicodeDecodeError:
        return None


async def fetch_recording(
    url: str, recording: Recording, settings: SpeechSettings, param: str, resolve: Resolve = resolve_by_system
) -> None:
    """Put the file behind the URL in the place of what is there; raises `invalid` or `too_large` naming `param`."""
    rules = Rules(
        noun="a sound file",
        plural="sound files",
        media_types="audio/*, video/*, application/octet-stream",
        origins=settings.audio_origins,
        setting="audio_origins",
        remedy="send the file itself",
        timeout_s=settings.audio_fetch_timeout_s,
    )
    recording.clear()
    await fetch(url, rules, param, recording.write, resolve)
