"""What transcriptions, translations and alignments have in common: from a form to an answer."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, TypeVar

from aiohttp import web

from appliance.api.codec import stream_events
from appliance.api.data.calls import run_call
from appliance.api.data.forms import Form, decode_fields, ignored_form_fields
from appliance.api.data.generation import IGNORED_FIELDS_HEADER, invalid
from appliance.api.data.sound_form import FILE_FIELD, read_sound_form
from appliance.api.data.speech_answer import HeardText, Shape
from appliance.api.data.speech_fields import (
    ListeningFields,
    SoundFields,
    check_listening,
    check_models,
    clip_s,
    granularities,
    temperatures,
)
from appliance.api.data.speech_stream import speech_events
from appliance.api.routing import Content, request_id, services
from appliance.config import Config
from appliance.services.recordings import Recording
from appliance.services.speech import SoundTask, demand_of_sound, fetch_recording, for_listener, named_url, to_language
from runtime.tasks.speech import Listening, Transcribe

BATCH_QUERY = "endpoint_id"

FieldsT = TypeVar("FieldsT", bound=SoundFields)


class Asked(NamedTuple):
    """A request that is understood."""

    model: str | None
    task: SoundTask
    """Without the file that it is about, and without ids."""
    shape: Shape
    is_streamed: bool
    ignored: Sequence[str]
    """Fields without effect."""


async def answer_sound(
    request: web.Request,
    kind: type[FieldsT],
    understand: Callable[[FieldsT, Config], Asked],
) -> web.StreamResponse:
    if BATCH_QUERY in request.query:
        raise invalid(BATCH_QUERY, "batches of sound are not served; leave it out")
    config = services(request).config
    with Recording(config.data_dir / "uploads", config.speech.audio_bytes_max, FILE_FIELD) as recording:
        form = await read_sound_form(
            request,
            recording,
            kind.__struct_encode_fields__,
            config.speech.audio_bytes_max,
            config.server.upload_idle_timeout_s,
        )
        asked = understand(decode_fields(form, kind), config)
        if (url := named_url(recording)) is not None:
            await fetch_recording(url, recording, config.speech, FILE_FIELD)
        return await _run(request, asked, recording, _ignored_headers(form, kind, asked))


def understand_listening(fields: ListeningFields, config: Config, is_translated: bool = False) -> Asked:
    check_listening(fields)
    shape = Shape(
        format=fields.response_format,
        granularities=granularities(fields),
        is_translated=is_translated,
        temperatures=temperatures(fields.temperature),
    )
    ignored = check_models(fields, shape.has_words, config.speech.replaced_alignment_models)
    listening = Listening(
        language=to_language(fields.language),
        is_translated=is_translated,
        prompt=fields.prompt or "",
        temperatures=shape.temperatures,
        has_words=shape.has_words,
    )
    task = Transcribe(
        request_id="",
        listening=listening,
        num_bytes=0,
        cuts_by_voice=not fields.skip_vad,
        preprocessing=fields.preprocessing,
        max_clip_s=clip_s(fields),
    )
    return Asked(fields.model, task, shape, fields.stream, ignored)


def form_of(fields: type[SoundFields]) -> Content:
    """For /openapi.json."""
    told = "A sound file in the part `file`, and what to do with it in the others, in any order."
    return Content("multipart/form-data", told, parts=(FILE_FIELD,), fields=fields)


async def _run(request: web.Request, asked: Asked, recording: Recording, headers: dict[str, str]) -> web.StreamResponse:
    running = await run_call(
        request,
        model=asked.model or services(request).config.speech.speech_model,
        make_task=for_listener(asked.task, recording),
        demand=demand_of_sound(recording.num_bytes),
        follow_ups=lambda: recording.chunks(request_id(request)),
    )
    if asked.is_streamed:
        return await stream_events(request, speech_events(running, asked.shape), headers | running.first_headers())
    heard = HeardText(asked.shape)
    async with aclosing(running.pieces()) as pieces:
        async for piece in pieces:
            heard.add(piece)
    return heard.respond(headers | running.headers())


def _ignored_headers(form: Form, kind: type[SoundFields], asked: Asked) -> dict[str, str]:
    names = [name for name in (*asked.ignored, ignored_form_fields(form, kind)) if name]
    return {IGNORED_FIELDS_HEADER: ", ".join(names)} if names else {}
