"""POST /audio/translations: a sound file in, what is said in it out, in English."""

from functools import partial

from aiohttp import web

from appliance.api.data.speech import answer_sound, form_of, understand_listening
from appliance.api.data.speech_answer import TEXT_ANSWERS, SpokenText
from appliance.api.data.speech_fields import TranslationFields
from appliance.api.data.speech_stream import SpeechEvent
from appliance.api.routing import Permission, Route


async def create_translation(request: web.Request) -> web.StreamResponse:
    """Write down in English what is said in a sound file, in whatever language.

    `language` is the one that is spoken. The formats are those of transcriptions.
    """
    return await answer_sound(request, TranslationFields, partial(understand_listening, is_translated=True))


ROUTES = [
    Route(
        "POST",
        "/inference/v1/audio/translations",
        create_translation,
        Permission.INFER,
        form_of(TranslationFields),
        answer=SpokenText,
        other_answers=TEXT_ANSWERS,
        event=SpeechEvent,
    ),
]
