"""What every call that is no generation tells of itself."""

from collections.abc import AsyncGenerator

import pytest

from appliance.api.data.calls import Running
from appliance.domain import QuotaMetric
from appliance.services.admission import Headroom
from appliance.services.inference import TaskAnswer
from runtime.message import Used
from runtime.protocol import AnyPiece
from runtime.tasks.images import Drawn
from runtime.tasks.speech import Transcribed
from tests.appliance.services.accounting_world import SHARED


async def answer(*several: list[AnyPiece]) -> AsyncGenerator[list[AnyPiece], None]:
    for pieces in several:
        yield pieces


def running(*several: list[AnyPiece]) -> Running:
    return Running(TaskAnswer(SHARED, answer(*several), [Headroom(QuotaMetric.REQUESTS, 10, 7)]))


async def test_what_was_used_adds_up_as_pieces_are_read() -> None:
    first = Transcribed(request_id="r", used=Used(num_prompt_tokens=3, audio_ms=1000))
    last = Drawn(request_id="r", index=0, data=b"p", used=Used(audio_ms=500, num_images=1), is_last=True)
    call = running([first], [last])
    seen = []
    async for piece in call.pieces():
        seen.append((piece, call.used.audio_ms))
    assert seen == [(first, 1000), (last, 1500)]
    assert call.used == Used(num_prompt_tokens=3, audio_ms=1500, num_images=1)


async def test_headers_are_those_of_every_other_answer() -> None:
    call = running([Transcribed(request_id="r", used=Used(num_prompt_tokens=3), is_last=True)])
    assert call.first_headers()["x-ratelimit-remaining-requests"] == "7"
    [piece async for piece in call.pieces()]
    headers = call.headers()
    assert headers["fireworks-prompt-tokens"] == "3"
    assert headers["fireworks-deployment"] == SHARED.deployment.name
    assert headers["fireworks-backend-host"]
    assert float(headers["fireworks-server-time-to-first-token"]) >= 0
    assert headers["x-ratelimit-limit-requests"] == "10"


async def test_who_stops_reading_ends_the_call() -> None:
    has_ended = False

    async def endless() -> AsyncGenerator[list[AnyPiece], None]:
        nonlocal has_ended
        try:
            while True:
                yield [Transcribed(request_id="r")]
        finally:
            has_ended = True

    pieces = Running(TaskAnswer(SHARED, endless())).pieces()
    await anext(pieces)
    await pieces.aclose()
    assert has_ended
    with pytest.raises(StopAsyncIteration):
        await anext(pieces)
