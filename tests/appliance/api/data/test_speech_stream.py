"""A transcription as it is heard."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from appliance.errors import Code, HearthError
from runtime.protocol import AnyFollowUp, AnyPiece, OtherTask
from runtime.tasks.speech import Transcribe
from tests.appliance.api.conftest import Api
from tests.appliance.api.data.speech_forms import TRANSCRIPTIONS, TRANSLATIONS, add_listeners, form_of, post, refusing
from tests.fakes.scripted_speech import DURATION_S, LANGUAGE, TEXT, listen


@pytest.fixture(autouse=True)
async def listeners(api: Api) -> None:
    await add_listeners(api)


async def events_of(api: Api, path: str = TRANSCRIPTIONS, **fields: Any) -> list[dict[str, Any]]:
    status, body, headers = await post(api, path, stream="true", **fields)
    assert status == 200, body
    assert headers["Content-Type"].startswith("text/event-stream")
    *events, done, rest = body.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def test_text_comes_as_it_is_heard_and_all_of_it_at_the_end(api: Api) -> None:
    *deltas, done = await events_of(api)
    assert [event["type"] for event in deltas] == ["transcript.text.delta"] * 2
    assert [event["delta"] for event in deltas] == ["Hello there.", " Say <b> & go --> on."]
    assert done == {
        "type": "transcript.text.done",
        "text": TEXT,
        "language": LANGUAGE,
        "duration": DURATION_S,
        "usage": {"seconds": DURATION_S, "type": "duration"},
    }


async def test_segments_come_to_those_who_want_details(api: Api) -> None:
    events = await events_of(api, TRANSLATIONS, response_format="verbose_json", timestamp_granularities="word,segment")
    first = events[0]
    assert (first["type"], first["id"], first["start"], first["end"]) == ("transcript.text.segment", "0", 0.0, 1.5)
    assert first["segment"]["words"][0]["word"] == "Hello"
    assert first["segment"]["language"] == "en"
    assert [event["type"].rpartition(".")[2] for event in events] == ["segment", "delta", "segment", "delta", "done"]


async def test_a_refusal_before_the_first_segment_has_its_status(api: Api) -> None:
    api.router.task_script = refusing(HearthError(Code.INVALID, "file: no sound that is known", "file"))
    status, body, _ = await post(api, TRANSCRIPTIONS, stream="true")
    assert (status, body["error"]["param"]) == (400, "file")


async def test_a_failure_after_it_is_an_event(api: Api) -> None:
    async def break_off(
        task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
    ) -> AsyncGenerator[list[AnyPiece]]:
        assert isinstance(task, Transcribe)
        assert follow_ups is not None
        async for pieces in listen(task, follow_ups):
            yield pieces
            raise HearthError(Code.UNAVAILABLE, "gone")

    api.router.task_script = break_off
    data = form_of({"stream": "true"})
    async with api.session.post(TRANSCRIPTIONS, data=data, headers=api.bearer()) as response:
        first, last = (await response.text()).strip().split("\n\n")
    assert "transcript.text.delta" in first
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "gone"
