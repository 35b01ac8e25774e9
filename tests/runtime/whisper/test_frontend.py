from collections.abc import Iterator
from typing import Any

import pytest

from runtime.engine import LoadRefused, Postponed, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import Failed, LoadAdapter
from runtime.tasks.speech import Align, AudioChunk, Listen, Listening, Trace, Transcribe, Transcribed
from runtime.whisper.frontend import WhisperFrontend
from runtime.whisper.live import LiveSource
from runtime.whisper.speech_text import SpeechText
from runtime.whisper.uploads import Uploads

ENGLISH = Listening(language="en")


@pytest.fixture(scope="module")
def uploads() -> Iterator[Uploads]:
    uploads = Uploads(max_bytes=1000, max_s=60.0)
    yield uploads
    uploads.close()


@pytest.fixture
def frontend(speech_text: SpeechText, uploads: Uploads) -> WhisperFrontend:
    return WhisperFrontend(speech_text, uploads)


def transcribe(**fields: Any) -> Transcribe:
    return Transcribe(**{"request_id": "a", "listening": ENGLISH, "num_bytes": 10, **fields})


def align(**fields: Any) -> Align:
    return Align(**{"request_id": "a", "text": "one", "num_bytes": 10, **fields})


@pytest.mark.parametrize(("asked_s", "max_clip_s"), [(None, 10.0), (25.0, 25.0)])
def test_sound_is_cut_to_what_the_model_is_best_given_unless_somebody_says_how(
    speech_text: SpeechText, uploads: Uploads, asked_s: float | None, max_clip_s: float
) -> None:
    frontend = WhisperFrontend(speech_text, uploads, clip_s=10.0)
    with pytest.raises(Postponed):
        frontend.prepare(transcribe(max_clip_s=asked_s))
    upload = uploads.find("a")
    assert upload is not None
    assert upload.treatment.max_clip_s == max_clip_s
    frontend.forget("a")


@pytest.mark.parametrize(
    ("task", "param", "part"),
    [
        (transcribe(listening=Listening(language="it")), "language", "'it'"),
        (transcribe(listening=Listening(prompt="a" * 20_001)), "prompt", "longer"),
        (transcribe(listening=Listening(temperatures=[0.0, 2.1])), "temperature", "between 0 and 2"),
        (transcribe(listening=Listening(temperatures=[float("nan")])), "temperature", "between 0 and 2"),
        (transcribe(listening=Listening(temperatures=[0.0] * 17)), "temperature", "up to 16"),
        (transcribe(max_clip_s=0.5), "max_clip_len", "between 1 and 30"),
        (transcribe(max_clip_s=31.0), "max_clip_len", "between 1 and 30"),
        (transcribe(num_bytes=0), "file", "empty"),
        (transcribe(adapter="x"), "model", "addon"),
        (align(text=" \n"), "text", "empty"),
        (align(text="a" * 200_001), "text", "longer"),
        (align(language="xx"), "language", "'xx'"),
        (Listen(request_id="a", listening=Listening(language="it")), "language", "'it'"),
    ],
)
def test_what_is_said_wrong_is_refused_by_name(
    frontend: WhisperFrontend, task: Transcribe | Align | Listen, param: str, part: str
) -> None:
    with pytest.raises(RequestRefused, match=part) as refusal:
        frontend.prepare(task)
    assert refusal.value.param == param


def test_a_file_is_put_off_until_it_is_whole(frontend: WhisperFrontend) -> None:
    with pytest.raises(Postponed) as first:
        frontend.prepare(transcribe())
    with pytest.raises(Postponed) as second:
        frontend.prepare(transcribe())
    assert second.value.ready is first.value.ready
    assert frontend.follow_up(AudioChunk(request_id="a", data=b"0123456789", is_last=True)) is None
    assert first.value.ready.exception(timeout=20) is not None
    with pytest.raises(RequestRefused, match="none of the formats"):
        frontend.prepare(transcribe())
    with pytest.raises(Postponed):  # it is forgotten: this one is another
        frontend.prepare(transcribe())
    frontend.forget("a")
    frontend.forget("a")


def test_a_conversation_is_the_engines_from_its_first_sound(frontend: WhisperFrontend) -> None:
    source = frontend.prepare(Listen(request_id="a", tenant="t", listening=ENGLISH))
    assert isinstance(source, LiveSource)
    assert source.tenant == "t"
    for message in (AudioChunk(request_id="a", data=b"\0\0"), Trace(request_id="a", trace_id="x")):
        assert frontend.follow_up(message) is message


def test_pieces_and_failures_are_passed_on_and_end_the_upload(frontend: WhisperFrontend, uploads: Uploads) -> None:
    for request_id in ("a", "b", "c"):
        with pytest.raises(Postponed):
            frontend.prepare(transcribe(request_id=request_id))
    first, last = Transcribed(request_id="a"), Transcribed(request_id="b", is_last=True)
    failure = Failed(request_id="c", code=FailureCode.INVALID, message="no")
    rendered = frontend.render([first, failure, last])
    assert list(rendered.pieces) == [first, last]
    assert rendered.failures == [failure]
    assert [uploads.find(request_id) is None for request_id in ("a", "b", "c")] == [False, True, True]
    frontend.forget("a")


def test_there_are_no_addons(frontend: WhisperFrontend) -> None:
    future = frontend.load_adapter(LoadAdapter(adapter="x", directory="/x", file_sha256={}))
    assert isinstance(future.exception(), LoadRefused)
    frontend.unload_adapter("x")
