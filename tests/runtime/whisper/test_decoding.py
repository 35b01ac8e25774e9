"""Files of every kind, and those of people who mean no good; faster-whisper's own decoder is the oracle."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from numpy.typing import NDArray

from models.framed_child import ChildLost, FramedChild
from runtime.tasks.speech import Preprocessing
from runtime.whisper import decoding
from runtime.whisper.decoding import SoundDecoder, SoundRefused, Unwanted
from tests.fakes.tiny_whisper import speech, wav_file


@pytest.fixture(scope="module")
def decoder() -> Iterator[SoundDecoder]:
    with SoundDecoder() as decoder:
        decoder.start()
        yield decoder


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return wav_file(speech(3), tmp_path_factory.mktemp("sound") / "speech.wav").read_bytes()


def decode(
    decoder: SoundDecoder, data: bytes, preprocessing: Preprocessing = "none", max_s: float = 100.0, **options: Any
) -> NDArray[np.int16]:
    descriptor = os.memfd_create("sound")
    try:
        os.write(descriptor, data)
        return decoder.decode(descriptor, preprocessing, max_s, **options)
    finally:
        os.close(descriptor)


def encoded(container: str, codec: str, rate: int, layout: str, samples: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype("<i2")[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        size = stream.codec_context.frame_size or 0
        resampler = av.AudioResampler(stream.codec_context.format.name, layout, rate, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(part))
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "rate", "layout"),
    [
        ("wav", "pcm_s24le", 44_100, "5.1"),
        ("flac", "flac", 16_000, "mono"),
        ("mp3", "mp3", 22_050, "stereo"),
        ("ogg", "libopus", 48_000, "mono"),
        ("mp4", "aac", 44_100, "stereo"),
        ("webm", "libopus", 48_000, "stereo"),
        ("adts", "aac", 44_100, "mono"),
        ("aiff", "pcm_s16be", 8_000, "mono"),
    ],
)
def test_sound_is_decoded_as_by_faster_whisper(
    decoder: SoundDecoder, container: str, codec: str, rate: int, layout: str
) -> None:
    data = encoded(container, codec, rate, layout, speech(2))
    samples = decode(decoder, data)
    assert abs(len(samples) - 2 * 16_000) < 2_000
    np.testing.assert_array_equal(samples.astype(np.float32) / 32768, decode_audio(io.BytesIO(data)))


def test_one_child_decodes_file_after_file(decoder: SoundDecoder, wav: bytes) -> None:
    decode(decoder, wav)
    child = decoder._child
    for _ in range(3):
        assert len(decode(decoder, wav)) == 48_000
    assert decoder._child is child


def test_a_file_that_is_cut_off_is_heard_as_far_as_it_goes(decoder: SoundDecoder) -> None:
    data = encoded("flac", "flac", 16_000, "mono", speech(4))
    assert 16_000 < len(decode(decoder, data[: len(data) // 2])) < 48_000


HEADER_BYTES = 44


@pytest.mark.parametrize("claimed", [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\xf0\xff\xff"])
def test_a_wav_that_claims_to_be_endless_is_as_long_as_it_is(decoder: SoundDecoder, wav: bytes, claimed: bytes) -> None:
    data = wav[:4] + claimed + wav[8:40] + claimed + wav[HEADER_BYTES:]
    assert len(decode(decoder, data)) == 48_000


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://%s\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("disguise", "content"),
    [
        ("playlist", PLAYLIST),
        ("concat", b"ffconcat version 1.0\nfile %s\n"),
        ("dash", b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>%s</BaseURL></MPD>'),
        ("description", b"v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\na=%s\n"),
        ("page", b"<html>%s</html>"),
        ("nothing", b"\0" * 5000),
    ],
)
def test_what_only_names_other_files_is_refused(
    decoder: SoundDecoder, wav: bytes, tmp_path: Path, disguise: str, content: bytes
) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(wav)
    filled = content.replace(b"%s", str(other).encode())
    for data in (filled, b"ID3\x03\x00\x00\x00\x00\x00\x00" + filled):
        with pytest.raises(SoundRefused, match="none of the formats"):
            decode(decoder, data)


def test_headers_alone_and_pictures_are_refused(decoder: SoundDecoder, wav: bytes) -> None:
    for data in (b"", wav[:HEADER_BYTES], b"\x89PNG\r\n\x1a\n" + bytes(100), b"RIFF\x00\x00\x00\x00WAVE"):
        with pytest.raises(SoundRefused):
            decode(decoder, data)


def test_a_file_is_no_longer_than_was_agreed(decoder: SoundDecoder, wav: bytes) -> None:
    with pytest.raises(SoundRefused, match="is 3 s long; at most 2 s"):
        decode(decoder, wav, max_s=2.0)


def test_sound_that_is_longer_than_its_header_says_is_refused_while_it_is_decoded(decoder: SoundDecoder) -> None:
    data = bytearray(encoded("flac", "flac", 16_000, "mono", np.zeros(16_000 * 60, dtype=np.float32)))
    assert len(data) < 60_000
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples: not known
    with pytest.raises(SoundRefused, match="longer than the 30 s"):
        decode(decoder, bytes(data), max_s=30.0)


@pytest.mark.parametrize(
    ("offset", "value", "part"), [(22, b"\x40\x00", "64 channels"), (24, b"\x01\x00\x00\x00", "1 samples a second")]
)
def test_an_odd_form_of_sound_is_refused(
    decoder: SoundDecoder, wav: bytes, offset: int, value: bytes, part: str
) -> None:
    data = wav[:offset] + value + wav[offset + len(value) :]
    with pytest.raises(SoundRefused, match=part):
        decode(decoder, data)


def test_a_file_nobody_waits_for_is_given_up(decoder: SoundDecoder) -> None:
    data = encoded("flac", "flac", 16_000, "mono", np.zeros(16_000 * 90, dtype=np.float32))
    with pytest.raises(Unwanted):
        decode(decoder, data, is_wanted=lambda: False)


def test_a_decoder_that_takes_too_long_is_killed_and_replaced(wav: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with SoundDecoder() as decoder:
        decode(decoder, wav)
        monkeypatch.setattr(decoding, "BLOCK_TIMEOUT_S", 0.0)
        with pytest.raises(SoundRefused, match="took longer"):
            decode(decoder, wav)
        monkeypatch.undo()
        assert len(decode(decoder, wav)) == 48_000


def test_a_decoder_that_cannot_start_says_so(wav: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise ChildLost("no process could be started")

    monkeypatch.setattr(FramedChild, "start", refuse)
    decoder = SoundDecoder()
    decoder.start()
    with pytest.raises(SoundRefused, match="did not start"):
        decode(decoder, wav)
