from typing import Any

import pytest

from runtime.tasks.speech import Align
from tests.appliance.api.conftest import Api
from tests.appliance.api.data.speech_forms import ALIGNMENTS, ENGLISH_MODEL, SOUND, add_listeners, post, refusal

SAID = "Hello you there"


@pytest.fixture(autouse=True)
async def listeners(api: Api) -> None:
    await add_listeners(api)


async def test_words_of_the_text_get_their_times(api: Api) -> None:
    status, body, _ = await post(api, ALIGNMENTS, text=SAID, preprocessing="dynamic", language="en")
    assert status == 200, body
    (task,) = api.router.tasks
    assert isinstance(task, Align)
    assert (task.text, task.preprocessing, task.language) == (SAID, "dynamic", "en")
    assert task.num_bytes == len(SOUND)
    assert body["text"] == SAID
    assert [(word["word"], word["start"]) for word in body["words"]] == [("Hello", 0.0), ("you", 0.5), ("there", 1.0)]
    assert body["segments"][0]["words"] == body["words"]


async def test_subtitles_of_an_alignment(api: Api) -> None:
    _, body, _ = await post(api, ALIGNMENTS, text=SAID, response_format="srt")
    assert body == f"1\n00:00:00,000 --> 00:00:01,500\n{SAID}\n"


async def test_what_is_not_served_is_refused_by_name(api: Api) -> None:
    assert (await refusal(api, ALIGNMENTS))[:2] == (400, "text")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"text": " "}, "text"),
        ({"text": SAID, "response_format": "json"}, "response_format"),
        ({"text": SAID, "alignment_model": "gentle"}, "alignment_model"),
        ({"text": SAID, "vad_model": "whisperx-pyannet"}, "vad_model"),
        ({"text": SAID, "model": ENGLISH_MODEL, "language": "de"}, "language"),
    ]
    for fields, param in refused:
        assert (await refusal(api, ALIGNMENTS, **fields))[:2] == (400, param), fields


async def test_the_refusal_names_the_setting_that_lets_old_clients_in(api: Api) -> None:
    _, _, message = await refusal(api, ALIGNMENTS, text=SAID, alignment_model="tdnn_ffn")
    assert "replaced_alignment_models" in message
