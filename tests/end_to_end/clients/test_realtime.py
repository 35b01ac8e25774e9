"""A conversation over a websocket, as the provider's examples hold it, with the speech model that comes with Hearth."""

import asyncio
import io
import json
import wave
from collections.abc import Iterator
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import psutil
import pytest
from openai import OpenAI

from models.builtin import EMBER_WHISPER
from scripts.ember_whisper.evaluation import edit_distance
from tests.end_to_end.clients.test_speech import hearth
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon
from tests.models.builtin.test_ember_whisper import recordings

MODEL = "my-ears"
PATH = "/v1/audio/transcriptions/streaming"
FRAME_BYTES = 3200
"""100 ms."""
PAUSE_S = 1.0
CLEAR = (0, 1, 2, 7, 9)
"""Recordings that the model understands to the word however they are cut; of others each hearing makes its own."""


class Room(NamedTuple):
    daemon: DaemonProcess
    sound: bytes
    """Some recordings, one after the other, in 16-bit samples."""
    said: list[str]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """Of a daemon of its own: others count the workers of the shared one."""
    some = [recordings()[index] for index in CLEAR]
    pause = np.zeros(int(PAUSE_S * 16_000), np.float32)
    sound = np.concatenate([part for recording in some for part in (recording.sound, pause)])
    data = np.rint(sound * 32768).clip(-32768, 32767).astype("<i2").tobytes()
    with running_daemon(tmp_path_factory.mktemp("realtime") / "data", num_spare_workers=0) as daemon:
        hearth(daemon, "create", "model", MODEL, str(EMBER_WHISPER.directory))
        hearth(daemon, "create", "deployment", MODEL, "--deployment-id", "ears", "--wait")
        yield Room(daemon, data, [word for recording in some for word in recording.text])


class Told(NamedTuple):
    messages: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """As clients put it together: segments by id, each as it was told last."""
        segments = {
            int(segment["id"]): segment["text"] for message in self.messages for segment in message.get("segments", [])
        }
        return " ".join(segments[number] for number in sorted(segments))


async def converse(room: Room, sound: bytes, *, key_in_query: bool = False, **query: str) -> Told:
    """Send it all, ask for a trace, and listen until it comes back."""
    key = room.daemon.api_key
    headers = {} if key_in_query else {"Authorization": key}
    params = {"model": MODEL, **query} | ({"Authorization": key} if key_in_query else {})
    messages: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(120),
        aiohttp.ClientSession(room.daemon.base_url, headers=headers) as session,
        session.ws_connect(PATH, params=params) as socket,
    ):

        async def send() -> None:
            for start in range(0, len(sound), FRAME_BYTES):
                await socket.send_bytes(sound[start : start + FRAME_BYTES])
            await socket.send_json({"event_id": "e", "object": "stt.input.trace", "trace_id": "final"})

        sending = asyncio.create_task(send())
        async for message in socket:
            decoded = json.loads(message.data)
            if decoded.get("trace_id") == "final":
                break
            messages.append(decoded)
        await sending
    return Told(messages)


async def test_what_is_heard_live_is_what_is_heard_of_a_file(room: Room) -> None:
    told = await converse(room, room.sound, response_format="verbose_json", language="en")
    assert edit_distance(room.said, told.text.split()) <= 0.1 * len(room.said)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(room.sound)
    with OpenAI(base_url=f"{room.daemon.base_url}/v1", api_key=room.daemon.api_key, max_retries=0) as client:
        offline = await asyncio.to_thread(
            client.audio.transcriptions.create, model=MODEL, file=("a.wav", file.getvalue()), language="en"
        )
    assert told.text.split() == offline.text.split()


async def test_final_words_do_not_change(room: Room) -> None:
    told = await converse(room, room.sound, key_in_query=True, timestamp_granularities="word,segment")
    final: dict[str, list[str]] = {}
    for message in told.messages:
        for segment in message["segments"]:
            now = [word["word"] for word in segment["words"] if word["is_final"]]
            before = final.get(segment["id"], [])
            assert now[: len(before)] == before[: len(now)]
            final[segment["id"]] = now
    assert sum(map(len, final.values())) > 0.8 * len(room.said)


async def test_many_conversations_at_once_are_heard_as_one_alone(room: Room) -> None:
    alone = await converse(room, room.sound)
    several = await asyncio.gather(*(converse(room, room.sound) for _ in range(3)))
    assert {told.text for told in several} == {alone.text}


async def test_noise_and_odd_bytes_hurt_nobody(room: Room) -> None:
    workers = _workers(room)
    noise = np.random.default_rng(1).integers(0, 256, 99_999, np.uint8).tobytes()
    await converse(room, noise)
    await converse(room, b"\xff")
    assert (await converse(room, b"")).messages == []
    assert _workers(room) == workers


def _workers(room: Room) -> list[int]:
    children = psutil.Process(room.daemon.pid).children(recursive=True)
    return sorted(child.pid for child in children if "runtime" in child.cmdline())
