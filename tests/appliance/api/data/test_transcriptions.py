"""A sound file in, text in every format out."""

from typing import Any

import pytest

from runtime.tasks.speech import Listening, Transcribe
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.data.speech_forms import (
    ENGLISH_MODEL,
    LISTENING_MODEL,
    SOUND,
    TRANSCRIPTIONS,
    add_listeners,
    post,
    refusal,
)
from tests.fakes.scripted_speech import DURATION_S, LANGUAGE, TEXT

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"response_format": "xml"}, "response_format"),
    ({"response_format": "diarized_json"}, "response_format"),
    ({"temperature": "1.5"}, "temperature"),
    ({"temperature": "nan"}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": ",".join(["0"] * 9)}, "temperature"),
    ({"timestamp_granularities": "word"}, "timestamp_granularities"),
    ({"timestamp_granularities": "letter", "response_format": "verbose_json"}, "timestamp_granularities"),
    ({"language": "klingon"}, "language"),
    ({"language": "zh-hant"}, "language"),
    ({"preprocessing": "loud"}, "preprocessing"),
    ({"vad_model": "whisperx-pyannet"}, "vad_model"),
    ({"vad_model": "other"}, "vad_model"),
    ({"alignment_model": "other"}, "alignment_model"),
    (
        {"alignment_model": "mms_fa", "response_format": "verbose_json", "timestamp_granularities": "word"},
        "alignment_model",
    ),
    ({"max_clip_len": "0"}, "max_clip_len"),
    ({"max_clip_len": "nan"}, "max_clip_len"),
    ({"skip_vad": "perhaps"}, "skip_vad"),
    ({"stream": "true", "response_format": "srt"}, "stream"),
    ({"diarize": "true"}, "diarize"),
    ({"min_speakers": "2"}, "min_speakers"),
    ({"max_speakers": "2"}, "max_speakers"),
    ({"known_speaker_names[]": ["a", "b"]}, "known_speaker_names"),
    ({"include[]": "logprobs"}, "include"),
    ({"chunking_strategy": '{"type":"server_vad"}'}, "chunking_strategy"),
    ({"keywords[]": "Ada"}, "keywords"),
    ({"languages[]": "en"}, "languages"),
    ({"model": READY_MODEL}, "model"),
    ({"model": ENGLISH_MODEL, "language": "de"}, "language"),
    ({"prompt": ["a", "b"]}, "prompt"),
]

GRANULARITIES: list[tuple[dict[str, Any], bool, bool]] = [
    ({}, False, True),
    ({"timestamp_granularities": "segment"}, False, True),
    ({"timestamp_granularities": "word"}, True, False),
    ({"timestamp_granularities[]": "word"}, True, False),
    ({"timestamp_granularities[]": ["word", "segment"]}, True, True),
    ({"timestamp_granularities": "word, segment"}, True, True),
]


@pytest.fixture(autouse=True)
async def listeners(api: Api) -> None:
    await add_listeners(api)


async def test_without_any_field_the_answer_is_the_text(api: Api) -> None:
    status, body, headers = await post(api, TRANSCRIPTIONS)
    assert status == 200, body
    assert body == {"text": TEXT, "usage": {"type": "duration", "seconds": DURATION_S}}
    (task,) = api.router.tasks
    assert isinstance(task, Transcribe)
    assert task.listening == Listening()
    assert task.cuts_by_voice
    assert headers["fireworks-deployment"].endswith("/whisper-v3-deployment")
    assert float(headers["fireworks-server-processing-time"]) >= 0
    assert "hearth-ignored-fields" not in headers


async def test_every_field_reaches_the_worker(api: Api) -> None:
    status, body, _ = await post(
        api,
        TRANSCRIPTIONS,
        model="whisper-v3",
        language="German",
        prompt="Names: Ada.",
        temperature="0.0,0.2, 0.4",
        response_format="verbose_json",
        timestamp_granularities="word,segment",
        preprocessing="bass_dynamic",
        vad_model="silero",
        alignment_model="whisper",
        skip_vad="True",
        max_clip_len="60",
    )
    assert status == 200, body
    (task,) = api.router.tasks
    assert isinstance(task, Transcribe)
    assert task.listening == Listening(
        language="de", prompt="Names: Ada.", temperatures=[0.0, 0.2, 0.4], has_words=True
    )
    assert (task.cuts_by_voice, task.preprocessing, task.max_clip_s) == (False, "bass_dynamic", 30.0)
    assert task.num_bytes == len(SOUND)


async def test_verbose_json_has_all_that_old_and_new_clients_read(api: Api) -> None:
    _, body, _ = await post(
        api,
        TRANSCRIPTIONS,
        temperature="0,0.2",
        response_format="verbose_json",
        timestamp_granularities="word,segment",
    )
    segments, words = body.pop("segments"), body.pop("words")
    assert body == {
        "task": "transcribe",
        "language": LANGUAGE,
        "duration": DURATION_S,
        "text": TEXT,
        "usage": {"type": "duration", "seconds": DURATION_S},
    }
    first = segments[0]
    assert first.pop("words") == words[:2]
    assert first == {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": 1.5,
        "audio_start": 0.0,
        "audio_end": 1.5,
        "text": " Hello there.",
        "language": LANGUAGE,
        "tokens": [1, 2],
        "temperature": 0.2,
        "avg_logprob": -0.5,
        "compression_ratio": 1.25,
        "no_speech_prob": 0.125,
        "no_speech": False,
        "retry_count": 1,
    }
    assert words[0] == {
        "word": "Hello",
        "start": 0.0,
        "end": 0.75,
        "language": LANGUAGE,
        "probability": 0.5,
        "hallucination_score": None,
        "is_final": True,
    }


async def test_both_spellings_of_granularities_say_what_is_timed(api: Api) -> None:
    for asked, has_words, has_segments in GRANULARITIES:
        _, body, _ = await post(api, TRANSCRIPTIONS, response_format="verbose_json", **asked)
        assert (body["words"] is not None, body["segments"] is not None) == (has_words, has_segments)
        task = api.router.tasks[-1]
        assert isinstance(task, Transcribe)
        assert task.listening.has_words == has_words


async def test_other_formats_are_no_json(api: Api) -> None:
    for name, content_type, beginning in [
        ("text", "text/plain", TEXT),
        ("srt", "text/plain", "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n"),
        ("vtt", "text/vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n"),
    ]:
        status, body, headers = await post(api, TRANSCRIPTIONS, response_format=name)
        assert status == 200
        assert body.startswith(beginning)
        assert headers["Content-Type"] == f"{content_type}; charset=utf-8"


async def test_what_is_not_served_is_refused_by_name(api: Api) -> None:
    for fields, param in REFUSED:
        assert (await refusal(api, TRANSCRIPTIONS, **fields))[:2] == (400, param), fields


async def test_models_that_would_have_nothing_to_do_are_told_as_ignored(api: Api) -> None:
    of_old_clients: dict[str, Any] = {
        "vad_model": "silero",
        "alignment_model": "tdnn_ffn",
        "diarization_model": "pyannote",
        "diarize": "false",
        "user": "ada",
        "Y: Z": "1",
    }
    status, _, headers = await post(api, TRANSCRIPTIONS, **of_old_clients)
    assert status == 200
    ignored = headers["hearth-ignored-fields"].split(", ")
    assert ignored[:2] == ["alignment_model", "diarization_model"]
    assert ignored[2:] == ["user", "Y%3A%20Z"]


async def test_an_empty_field_counts_as_left_out(api: Api) -> None:
    status, _, _ = await post(api, TRANSCRIPTIONS, language="", prompt="", temperature="", model="")
    assert status == 200


async def test_an_english_model_hears_english(api: Api) -> None:
    for language in ("en", "English"):
        assert (await post(api, TRANSCRIPTIONS, model=ENGLISH_MODEL, language=language))[0] == 200


async def test_what_does_not_exist_is_not_found(api: Api) -> None:
    assert (await refusal(api, TRANSCRIPTIONS, model="nobody/knows"))[:2] == (404, "model")


async def test_batches_are_refused_by_name(api: Api) -> None:
    assert (await refusal(api, f"{TRANSCRIPTIONS}?endpoint_id=audio-prod"))[:2] == (400, "endpoint_id")


async def test_clients_base_urls_lead_here(api: Api) -> None:
    for prefix in ("/v1", "/inference/v1/v1"):
        assert (await post(api, f"{prefix}/audio/transcriptions", model=LISTENING_MODEL))[0] == 200
