"""A sound file becomes samples as Whisper hears them, 16 kHz mono, in a child process that can be killed.

Decoders are large programs fed by strangers: the child opens few formats, no other file and no address that a file
names; it looks at the header before it decodes, and works within limits of memory, time and length. A file reaches it
as a descriptor; samples come back block by block, so that it needs the same memory for a minute and for four hours.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.framed_child import ChildLost, FramedChild, confine, read_frame, write_frame
from runtime.tasks.speech import Preprocessing
from runtime.whisper.preprocessing import FILTERS
from runtime.whisper.windows import SAMPLE_RATE

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer

FORMATS = "wav,w64,aiff,au,caf,mp3,aac,flac,ogg,mov,matroska,mpeg,amr,asf"
"""ffmpeg's demuxers; none of them opens a second file. m4a and mp4 are mov, webm is matroska, mpga is mp3."""
FORMAT_NAMES = "WAV, AIFF, MP3, AAC, FLAC, Ogg, MP4/M4A, WebM/Matroska, MPEG, AMR, CAF, AU, WMA"
CHANNELS_MAX = 32
RATES = range(2_000, 384_001)
START_TIMEOUT_S = 15.0
BLOCK_TIMEOUT_S = 20.0
"""For as much as decodes in a tenth of a second, usually."""
DECODE_TIMEOUT_S = 600.0
"""For four hours, on a busy machine."""
ADDRESS_SPACE_BYTES = 1024 * 1024 * 1024

_GROUP_SAMPLES = 500_000
"""Of the file's own rate, resampled at a time."""
_REPLY_BYTES_MAX = 256 * 1024 * 1024
_PTS_PER_S = 1_000_000
_NEXT = b"next"


class SoundRefused(Exception):
    """This file is not listened to; the text says why and may be shown to the client."""


class Unwanted(Exception):
    """Nobody waits for this file any more."""


class _Request(msgspec.Struct, array_like=True):
    preprocessing: Preprocessing
    max_s: float


class _Block(msgspec.Struct, array_like=True):
    samples: bytes = b""
    """16 bits, little-endian."""
    is_last: bool = False
    error: str | None = None


class SoundDecoder:
    """For one caller thread that outlasts it; `close` ends the child."""

    def __init__(self) -> None:
        self._child: FramedChild | None = None
        self._channel: socket.socket | None = None
        self._is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """By the first file it is ready; where it cannot start now, that file tries again."""
        try:
            self._start()
        except ChildLost:
            self.close()

    def decode(
        self, descriptor: int, preprocessing: Preprocessing, max_s: float, is_wanted: Callable[[], bool] = lambda: True
    ) -> NDArray[np.int16]:
        """The file from its beginning. Raises SoundRefused, or Unwanted soon after it is wanted no more."""
        self._await_ready()
        try:
            return np.frombuffer(self._collect(descriptor, _Request(preprocessing, max_s), is_wanted), dtype=np.int16)
        except (ChildLost, msgspec.DecodeError, OSError) as error:
            self.close()
            raise SoundRefused(f"cannot be decoded: {error}") from error
        except Unwanted:
            self.close()  # it is in the midst of it
            raise

    def close(self) -> None:
        if self._child is not None:
            self._child.stop()
        if self._channel is not None:
            self._channel.close()
        self._child = self._channel = None
        self._is_ready = False

    def _collect(self, descriptor: int, request: _Request, is_wanted: Callable[[], bool]) -> bytearray:
        assert self._child is not None
        assert self._channel is not None
        deadline = time.monotonic() + DECODE_TIMEOUT_S
        socket.send_fds(self._channel, [b"\0"], [descriptor])
        message = msgspec.msgpack.encode(request)
        samples = bytearray()
        while True:
            block = msgspec.msgpack.decode(self._child.exchange(message, BLOCK_TIMEOUT_S), type=_Block)
            message = _NEXT
            if block.error is not None:
                raise SoundRefused(block.error)
            samples += block.samples
            if block.is_last:
                return samples
            if len(samples) > 2 * SAMPLE_RATE * (request.max_s + 60):
                raise ChildLost("it gives more than it was asked for")
            if time.monotonic() > deadline:
                raise ChildLost(f"it took longer than {DECODE_TIMEOUT_S:g} s")
            if not is_wanted():
                raise Unwanted

    def _start(self) -> None:
        self.close()
        self._channel, theirs = socket.socketpair()
        with theirs:
            arguments, descriptors = [str(theirs.fileno())], [theirs.fileno()]
            self._child = FramedChild(
                "runtime.whisper.decoding", arguments, reply_bytes_max=_REPLY_BYTES_MAX, pass_fds=descriptors
            )
            self._child.start()

    def _await_ready(self) -> None:
        if self._is_ready and self._child is not None and self._child.is_running:
            return
        try:
            if self._child is None or not self._child.is_running:
                self._start()
            assert self._child is not None
            self._child.exchange(None, START_TIMEOUT_S)
        except ChildLost as error:
            self.close()
            raise SoundRefused(f"cannot be decoded now: the decoder did not start: {error}") from error
        self._is_ready = True


# ---- the child


def main(parent_pid: int, channel_fd: int) -> None:
    """Answer until stdin ends."""
    import av  # the parent does without it

    av.logging.set_level(None)
    av.filter.Graph()  # its libraries are read from disk before anything of a stranger's is
    confine(parent_pid, address_space_bytes=ADDRESS_SPACE_BYTES)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    channel = socket.socket(fileno=channel_fd)
    write_frame(stdout, b"")
    while (frame := read_frame(stdin)) is not None:
        request = msgspec.msgpack.decode(frame, type=_Request)
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        for block in _answer(descriptors[0], request):
            write_frame(stdout, msgspec.msgpack.encode(block))
            if not block.is_last and block.error is None and read_frame(stdin) is None:
                return


def _answer(descriptor: int, request: _Request) -> Iterator[_Block]:
    """Blocks of sound, and last one that says how it ended."""
    num_samples = 0
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with os.fdopen(descriptor, "rb") as file, _open(file) as container:
            _check_header(container, os.fstat(descriptor).st_size, request.max_s)
            for frame in _filtered(_resampled(_grouped(_frames(container))), request.preprocessing):
                num_samples += frame.samples
                if num_samples > request.max_s * SAMPLE_RATE:
                    raise SoundRefused(f"is longer than the {request.max_s:g} s that are listened to at most")
                yield _Block(bytes(frame.planes[0])[: 2 * frame.samples])
        yield _Block(is_last=True) if num_samples else _Block(error="holds no sound that can be decoded")
    except SoundRefused as error:
        yield _Block(error=str(error))
    except MemoryError:
        yield _Block(error="needs too much memory to be decoded")
    except Exception:  # a decoder that is fed with anything may raise anything
        yield _Block(error=f"is damaged, incomplete or in none of the formats {FORMAT_NAMES}")


def _open(file: object) -> "InputContainer":
    import av

    # Playlists and the like, which open what they name, are other formats; what is left could open nothing either.
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
    return av.open(file, mode="r", metadata_errors="ignore", options=options)


def _check_header(container: "InputContainer", num_bytes: int, max_s: float) -> None:
    """What the header claims; a broken claim shows while decoding."""
    if not container.streams.audio:
        raise SoundRefused("holds no sound")
    stream = container.streams.audio[0]
    codec = stream.codec_context
    if codec is None:
        raise SoundRefused("holds sound in a coding that is not known")
    codec.thread_count = 1
    _check_form(codec.rate, codec.layout.nb_channels)
    duration_s = 0.0 if container.duration is None else container.duration / _PTS_PER_S
    if codec.name.startswith("pcm_") and codec.bit_rate:
        # A program that writes to a pipe cannot know the length, and claims the greatest.
        duration_s = min(duration_s, num_bytes * 8 / codec.bit_rate)
    if duration_s > max_s:
        raise SoundRefused(f"is {duration_s:.0f} s long; at most {max_s:g} s are listened to")


def _check_form(rate: int, num_channels: int) -> None:
    if rate not in RATES:
        raise SoundRefused(f"has {rate} samples a second; {RATES.start} to {RATES.stop - 1} are taken")
    if not 1 <= num_channels <= CHANNELS_MAX:
        raise SoundRefused(f"has {num_channels} channels; 1 to {CHANNELS_MAX} are taken")


def _frames(container: "InputContainer") -> "Iterator[AudioFrame]":
    """Whatever can be decoded: a file that is damaged in the midst is heard before and behind it."""
    import av

    frames = container.decode(audio=0)
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except av.error.InvalidDataError:
            continue
        _check_form(frame.sample_rate, frame.layout.nb_channels)
        yield frame


def _grouped(frames: "Iterable[AudioFrame]") -> "Iterator[AudioFrame | None]":
    """Large ones of small ones: each costs the same to handle."""
    import av

    fifo = av.AudioFifo()
    for frame in frames:
        frame.pts = None  # gaps and overlaps in its times are none in the sound
        fifo.write(frame)
        if fifo.samples >= _GROUP_SAMPLES:
            yield fifo.read()
    if fifo.samples > 0:
        yield fifo.read()


def _resampled(frames: "Iterable[AudioFrame | None]") -> "Iterator[AudioFrame]":
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    for frame in frames:
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _filtered(frames: "Iterable[AudioFrame]", preprocessing: Preprocessing) -> "Iterator[AudioFrame]":
    if not FILTERS[preprocessing]:
        yield from frames
        return
    import av
    from av.error import BlockingIOError as NothingYet

    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="s16", layout="mono")
    parts = [source, *(graph.add(one.name, one.arguments) for one in FILTERS[preprocessing])]
    parts += [graph.add("aformat", f"sample_fmts=s16:sample_rates={SAMPLE_RATE}:channel_layouts=mono")]
    graph.link_nodes(*parts, graph.add("abuffersink")).configure()

    def drain() -> "Iterator[AudioFrame]":
        while True:
            try:
                frame = graph.pull()
            except (NothingYet, av.error.EOFError):
                return
            assert isinstance(frame, av.AudioFrame)
            yield frame

    for frame in frames:
        frame.pts = None
        graph.push(frame)
        yield from drain()
    graph.push(None)
    yield from drain()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
