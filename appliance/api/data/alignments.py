"""POST /audio/alignments: a sound file and what is said in it in, when each word is said out."""

from aiohttp import web

from appliance.api.data.generation import invalid
from appliance.api.data.speech import Asked, answer_sound, form_of
from appliance.api.data.speech_answer import TEXT_ANSWERS, Shape, SpokenText
from appliance.api.data.speech_fields import GRANULARITIES, AlignmentFields, check_models
from appliance.api.routing import Permission, Route
from appliance.config import Config
from appliance.services.speech import to_language
from runtime.tasks.speech import Align


async def create_alignment(request: web.Request) -> web.StreamResponse:
    """Find out when each word of a text is said in a sound file."""
    return await answer_sound(request, AlignmentFields, _understand)


def _understand(fields: AlignmentFields, config: Config) -> Asked:
    if not fields.text.strip():
        raise invalid("text", "must not be empty")
    ignored = check_models(fields, has_words=True, replaced=config.speech.replaced_alignment_models)
    task = Align(
        request_id="",
        text=fields.text,
        num_bytes=0,
        language=to_language(fields.language),
        preprocessing=fields.preprocessing,
    )
    shape = Shape(format=fields.response_format, granularities=frozenset(GRANULARITIES))
    return Asked(fields.model, task, shape, is_streamed=False, ignored=ignored)


ROUTES = [
    Route(
        "POST",
        "/inference/v1/audio/alignments",
        create_alignment,
        Permission.INFER,
        form_of(AlignmentFields),
        answer=SpokenText,
        other_answers=TEXT_ANSWERS,
    ),
]
