"""A model that listens, uploaded by our command line, and the packages that have sound files written down by it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import openai
import psutil
import pytest
import webvtt
from faster_whisper import BatchedInferencePipeline, WhisperModel
from openai import OpenAI

from appliance.config import MIB
from tests.end_to_end.clients.test_fireworks_0_19 import PYTHON
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.fakes.tiny_whisper import build_tiny_whisper, speech, wav_file

MODEL = "whisper-v3"
DURATION_S = 35.0
SHORT_S = 8.0
SCRIPT = Path(__file__).with_name("fireworks_0_19_audio.py")
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


class Hall(NamedTuple):
    """Where a model listens."""

    daemon: DaemonProcess
    client: OpenAI
    sound: Path
    model: Path


def hearth(daemon: DaemonProcess, *arguments: str) -> None:
    environment = {**os.environ, "HEARTH_BASE_URL": daemon.base_url, "HEARTH_API_KEY": daemon.api_key}
    command = [sys.executable, "-m", "appliance", *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """Of a daemon of its own: others count the workers of the shared one."""
    directory = build_tiny_whisper(tmp_path_factory.mktemp("model") / "whisper")
    sound = wav_file(speech(DURATION_S, pause_s=1.0), tmp_path_factory.mktemp("sound") / "speech.wav")
    with running_daemon(tmp_path_factory.mktemp("speech") / "data", num_spare_workers=0) as daemon:
        hearth(daemon, "create", "model", MODEL, str(directory))
        hearth(daemon, "create", "deployment", MODEL, "--deployment-id", "ears", "--wait")
        with OpenAI(base_url=f"{daemon.base_url}/v1", api_key=daemon.api_key, max_retries=0) as client:
            yield Hall(daemon, client, sound, directory)


def transcribe(hall: Hall, **options: Any) -> Any:
    return hall.client.audio.transcriptions.create(model=MODEL, file=hall.sound, language="en", **options)


@pytest.fixture(scope="module")
def verbose(hall: Hall) -> Any:
    return transcribe(hall, response_format="verbose_json", timestamp_granularities=["word", "segment"])


def test_verbose_answers_hold_segments_and_words_within_the_sound(verbose: Any) -> None:
    assert (verbose.task, verbose.language) == ("transcribe", "en")
    assert float(verbose.duration) == pytest.approx(DURATION_S, abs=0.1)
    assert len(verbose.segments) > 1
    assert [segment.id for segment in verbose.segments] == list(range(len(verbose.segments)))
    assert verbose.text == "".join(segment.text for segment in verbose.segments).strip()
    for timed in (verbose.segments, verbose.words):
        assert all(0 <= one.start <= one.end <= DURATION_S + 0.1 for one in timed)
    assert "".join(word.word for word in verbose.words) == "".join(verbose.text.split())


def test_it_is_what_faster_whisper_hears(hall: Hall, verbose: Any) -> None:
    model = WhisperModel(str(hall.model), device="cpu", compute_type="float32", cpu_threads=1, local_files_only=True)
    told, _ = BatchedInferencePipeline(model).transcribe(
        str(hall.sound), language="en", temperature=0.0, batch_size=8, without_timestamps=False, word_timestamps=True
    )
    expected = [segment for segment in told if segment.text.strip()]
    assert [segment.text for segment in verbose.segments] == [segment.text for segment in expected]
    assert [segment.tokens for segment in verbose.segments] == [segment.tokens for segment in expected]
    times = [(float(word.start), float(word.end)) for segment in expected for word in segment.words or []]
    assert [(word.start, word.end) for word in verbose.words] == times


def test_every_format_says_the_same(hall: Hall, verbose: Any) -> None:
    plain = transcribe(hall)
    assert plain.text
    assert plain.usage.seconds == pytest.approx(DURATION_S, abs=0.1)
    assert transcribe(hall, response_format="text") == plain.text
    segments = [segment for segment in verbose.segments if segment.text.strip()]
    srt = webvtt.from_buffer(io.StringIO(transcribe(hall, response_format="srt")), format="srt").captions
    vtt = webvtt.from_string(transcribe(hall, response_format="vtt")).captions
    assert len(srt) == len(vtt) > 1
    assert len(segments) == len(srt)
    assert [caption.text for caption in vtt] == [caption.text for caption in srt]
    assert "".join("".join(caption.text.split()) for caption in srt) == "".join(plain.text.split())


def test_a_stream_brings_the_text_in_parts(hall: Hall) -> None:
    *parts, done = transcribe(hall, stream=True)
    assert done.type == "transcript.text.done"
    assert len(parts) > 1
    assert "".join(part.delta for part in parts) == done.text == transcribe(hall).text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the package's word on its own method
def test_what_is_translated_is_english(hall: Hall) -> None:
    translations: Any = hall.client.audio.translations
    answer = translations.create(model=MODEL, file=hall.sound, response_format="verbose_json")
    assert (answer.task, answer.language) == ("translate", "en")
    assert answer.text == translations.create(model=MODEL, file=hall.sound).text


@pytest.mark.parametrize(
    "content",
    [PLAYLIST, b"x" * 1000, b"RIFF\xff\xff\xff\xffWAVEfmt ", b"fLaC" + bytes(500), b"\xff\xfb" + bytes(300)],
    ids=["playlist", "noise", "wav head", "flac head", "mp3 head"],
)
def test_what_is_no_sound_is_refused_and_the_worker_lives(hall: Hall, content: bytes) -> None:
    workers = {worker.pid for worker in hall.daemon.workers()}
    assert workers
    with pytest.raises(openai.BadRequestError, match="file: ") as refused:
        hall.client.audio.transcriptions.create(model=MODEL, file=("sound.mp3", content))
    assert refused.value.param == "file"
    assert {worker.pid for worker in hall.daemon.workers()} == workers


def flac(duration_s: float, sample_rate: int) -> bytes:
    """Of silence, which takes next to nothing."""
    file = io.BytesIO()
    silence = av.AudioFrame.from_ndarray(np.zeros((1, int(duration_s * sample_rate)), np.int16), "s16", "mono")
    silence.sample_rate = sample_rate
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=sample_rate, layout="mono")
        for packet in (*stream.encode(silence), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def test_hours_in_a_few_megabytes_are_refused_and_long_silence_leaves_nothing_behind(hall: Hall) -> None:
    (worker,) = hall.daemon.workers()
    transcribe(hall)
    before = worker.memory_info().rss
    bomb, silence = flac(5 * 3600, 2000), flac(15 * 60, 2000)
    assert len(bomb) < 4 * MIB
    with pytest.raises(openai.BadRequestError, match="18000 s long; at most 14400 s") as refused:
        hall.client.audio.transcriptions.create(model=MODEL, file=("sound.flac", bomb))
    assert refused.value.param == "file"
    assert hall.client.audio.transcriptions.create(model=MODEL, file=("sound.flac", silence)).text == ""
    wait_until(lambda: worker.memory_info().rss - before < 64 * MIB, 20, "the memory back")


def test_a_large_file_passes_through_the_daemon_without_staying_in_its_memory(hall: Hall) -> None:
    daemon = psutil.Process(hall.daemon.pid)
    before = daemon.memory_info().rss
    with pytest.raises(openai.BadRequestError, match="file: "):
        hall.client.audio.transcriptions.create(model=MODEL, file=("sound.mp3", bytes(128 * MIB)))
    assert daemon.memory_info().rss - before < 64 * MIB
    assert not list((hall.daemon.data_dir / "uploads").iterdir())


def test_what_is_not_served_is_refused_by_name(hall: Hall) -> None:
    transcriptions: Any = hall.client.audio.transcriptions
    for options in ({"language": "klingon"}, {"chunking_strategy": {"type": "server_vad"}}, {"include": ["logprobs"]}):
        (name,) = options
        with pytest.raises(openai.BadRequestError) as refused:
            transcriptions.create(model=MODEL, file=hall.sound, **options)
        assert refused.value.param == name


def test_a_model_of_another_kind_does_not_listen(hall: Hall) -> None:
    with pytest.raises(openai.BadRequestError, match="listens to speech"):
        hall.client.audio.transcriptions.create(model="accounts/fireworks/models/ember-chat", file=hall.sound)
    with pytest.raises(openai.BadRequestError):
        hall.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])


@pytest.fixture(scope="module")
def told(hall: Hall) -> Any:
    """What the old client saw, by the name of the call."""
    assert PYTHON.exists(), "`EXTRAS=test scripts/install` makes this environment"
    daemon = hall.daemon
    short = wav_file(speech(SHORT_S, seed=1), hall.sound.with_name("short.wav"))
    arguments = [f"{daemon.base_url}/inference/v1", daemon.api_key, MODEL, str(short)]
    done = subprocess.run([str(PYTHON), str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_old_client_reads_every_answer(told: Any) -> None:
    assert told["json"] == told["verbose"]["text"]
    assert told["verbose"]["words"] is None
    assert len(webvtt.from_buffer(io.StringIO(told["srt"]), format="srt").captions) == len(told["verbose"]["segments"])
    assert told["timed"]["words"] == [word for segment in told["timed"]["segments"] for word in segment["words"]]
    assert told["translated"]["task"] == "translate"


def test_the_old_client_aligns_a_text(told: Any) -> None:
    words = [word["word"] for word in told["aligned"]["words"]]
    assert words == ["the", "hearth", "keeps", "the", "house", "warm"]
    assert webvtt.from_string(told["aligned_vtt"]).captions


def test_the_old_client_is_told_what_is_not_here(told: Any) -> None:
    refusals = told["refusals"]
    assert all(text.startswith("InvalidRequestError") for text in refusals.values())
    assert "tdnn_ffn is not installed here" in refusals["alignment_model"]
    assert "audio_origins" in refusals["url"]
    assert "diarize" in refusals["diarize"]
