import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine import RequestRefused
from runtime.message import FailureCode
from runtime.tasks.speech import AudioChunk
from runtime.whisper.uploads import Treatment, Upload, Uploads
from tests.fakes.tiny_whisper import speech, wav_file

PLAIN = Treatment("none", cuts_by_voice=True, max_clip_s=30.0)
WHOLE = PLAIN._replace(cuts_by_voice=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[Uploads]:
    uploads = Uploads(max_bytes=10_000_000, max_s=60.0)
    yield uploads
    uploads.close()


@pytest.fixture
def uploads(shared: Uploads) -> Uploads:
    for request_id in ("a", "b", "c"):
        shared.forget(request_id)
    return shared


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return wav_file(speech(3), tmp_path_factory.mktemp("sound") / "speech.wav").read_bytes()


def send(uploads: Uploads, request_id: str, data: bytes, *, num_bytes: int = 0, treatment: Treatment = PLAIN) -> Upload:
    upload = uploads.begin(request_id, num_bytes or len(data), treatment)
    uploads.receive(AudioChunk(request_id=request_id, data=data[:1000]))
    uploads.receive(AudioChunk(request_id=request_id, data=data[1000:], is_last=True))
    return upload


def refusal_of(upload: Upload) -> RequestRefused:
    with pytest.raises(RequestRefused) as refusal:
        upload.ready.result(timeout=20)
    return refusal.value


def test_a_file_becomes_its_samples_and_clips(uploads: Uploads, wav: bytes) -> None:
    recording = send(uploads, "a", wav).ready.result(timeout=20)
    assert len(recording.samples) == 48_000
    assert len(recording.clips) == 1
    assert 0 < recording.clips[0].num_samples <= 48_000


def test_a_short_file_can_be_taken_whole_and_a_long_one_not(uploads: Uploads, wav: bytes, tmp_path: Path) -> None:
    recording = send(uploads, "a", wav, treatment=WHOLE).ready.result(timeout=20)
    assert recording.clips[0].num_samples == 48_000
    long = wav_file(speech(31), tmp_path / "long.wav").read_bytes()
    assert refusal_of(send(uploads, "b", long, treatment=WHOLE)).param == "skip_vad"


def test_what_cannot_be_listened_to_is_refused_naming_the_file(uploads: Uploads, tmp_path: Path) -> None:
    refusal = refusal_of(send(uploads, "a", b"no sound" * 500))
    assert (refusal.code, refusal.param) == (FailureCode.INVALID, "file")
    long = wav_file(speech(61), tmp_path / "long.wav").read_bytes()
    assert "at most 60 s" in refusal_of(send(uploads, "b", long)).message


def test_bytes_are_counted(uploads: Uploads, wav: bytes) -> None:
    for request_id, num_bytes, part in (("a", len(wav) + 1, "1 bytes of it did not come"), ("b", 999, "more bytes")):
        with pytest.raises(RequestRefused, match=part):
            send(uploads, request_id, wav, num_bytes=num_bytes)
    with pytest.raises(RequestRefused, match="empty"):
        uploads.begin("c", 0, PLAIN)
    with pytest.raises(RequestRefused) as refusal:
        uploads.begin("c", 10_000_001, PLAIN)
    assert refusal.value.code is FailureCode.TOO_LARGE


def test_no_more_is_held_than_was_agreed(uploads: Uploads) -> None:
    for request_id in ("a", "b"):
        uploads.begin(request_id, 10_000_000, PLAIN)
    with pytest.raises(RequestRefused) as refusal:
        uploads.begin("c", 1, PLAIN)
    assert refusal.value.code is FailureCode.OVERLOADED
    uploads.forget("a")
    uploads.begin("c", 1, PLAIN)


def num_sounds_held() -> int:
    with os.scandir("/proc/self/fd") as entries:
        return sum("memfd:sound" in os.readlink(entry.path) for entry in entries if os.path.lexists(entry.path))


def test_the_memory_of_a_file_is_given_back_when_it_is_decoded_or_forgotten(uploads: Uploads, wav: bytes) -> None:
    upload = send(uploads, "a", wav)
    upload.ready.result(timeout=20)
    upload.close()  # waits for the thread, which is about to do the same
    uploads.begin("b", 10, PLAIN)
    assert num_sounds_held() == 1
    uploads.forget("b")
    uploads.forget("b")
    uploads.receive(AudioChunk(request_id="b", data=b"late", is_last=True))
    assert num_sounds_held() == 0
    assert uploads.find("b") is None
    assert uploads.find("a") is not None


def test_a_file_that_is_forgotten_while_it_waits_is_not_decoded(uploads: Uploads, wav: bytes) -> None:
    upload = send(uploads, "a", wav)
    uploads.forget("a")
    refusal = upload.ready.exception(timeout=20)
    assert refusal is None or "not wanted" in str(refusal), "unless a thread was faster"
    upload.close()
    assert num_sounds_held() == 0
