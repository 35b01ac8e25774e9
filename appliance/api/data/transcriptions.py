"""POST /audio/transcriptions: a sound file in, the text of what is said out."""

from aiohttp import web

from appliance.api.data.speech import answer_sound, form_of, understand_listening
from appliance.api.data.speech_answer import TEXT_ANSWERS, SpokenText
from appliance.api.data.speech_fields import TranscriptionFields
from appliance.api.data.speech_stream import SpeechEvent
from appliance.api.routing import Permission, Route


async def create_transcription(request: web.Request) -> web.StreamResponse:
    """Write down what is said in a sound file.

    The formats: `json` is the text alone, `verbose_json` has languages and times, `text`, `srt` and `vtt` are no JSON.
    """
    return await answer_sound(request, TranscriptionFields, understand_listening)


ROUTES = [
    Route(
        "POST",
        "/inference/v1/audio/transcriptions",
        create_transcription,
        Permission.INFER,
        form_of(TranscriptionFields),
        answer=SpokenText,
        other_answers=TEXT_ANSWERS,
        event=SpeechEvent,
    ),
]
