import pytest

from runtime.tasks.speech import Transcribe
from tests.appliance.api.conftest import Api
from tests.appliance.api.data.speech_forms import ENGLISH_MODEL, TRANSLATIONS, add_listeners, post, refusal
from tests.fakes.scripted_speech import TEXT


@pytest.fixture(autouse=True)
async def listeners(api: Api) -> None:
    await add_listeners(api)


async def test_what_is_heard_is_translated_into_english_from_the_language_that_is_spoken(api: Api) -> None:
    status, body, headers = await post(
        api, TRANSLATIONS, language="de", response_format="verbose_json", timestamp_granularities="word", diarize="true"
    )
    assert status == 200, body
    (task,) = api.router.tasks
    assert isinstance(task, Transcribe)
    assert task.listening.is_translated
    assert task.listening.language == "de"
    assert (body["task"], body["language"], body["text"]) == ("translate", "en", TEXT)
    assert {word["language"] for word in body["words"]} == {"en"}
    assert headers["hearth-ignored-fields"] == "diarize"


async def test_an_english_model_translates_nothing(api: Api) -> None:
    assert (await refusal(api, TRANSLATIONS, model=ENGLISH_MODEL))[:2] == (400, "model")
