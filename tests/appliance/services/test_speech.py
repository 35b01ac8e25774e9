from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from appliance.config import SpeechSettings
from appliance.domain import Deployment, DeploymentState, Model, ModelState
from appliance.errors import Code, HearthError
from appliance.services.recordings import Recording
from appliance.services.speech import (
    demand_of_sound,
    fetch_recording,
    for_listener,
    named_url,
    require_listener,
    to_language,
)
from appliance.services.targets import Target
from models.info import AnyServedInfo
from runtime.settings import AUDIO_S_MAX
from runtime.tasks.speech import Align, Listening, Transcribe
from tests.fakes.scripted_speech import LISTENER
from tests.fakes.scripted_tasks import EMBEDDER

SOUND = b"RIFF" + bytes(2_000_000)


def target_of(info: AnyServedInfo | None) -> Target:
    model = Model(
        account_id="a", id="m", state=ModelState.READY, directory="m", info=info, created_at=0.0, updated_at=0.0
    )
    deployment = Deployment(
        account_id="a",
        id="d",
        base_model=model.name,
        state=DeploymentState.READY,
        desired_replica_count=1,
        created_at=0.0,
        updated_at=0.0,
    )
    return Target(deployment, model)


def test_only_a_model_that_listens_is_asked_to() -> None:
    assert require_listener(target_of(LISTENER), "de", is_translated=True) == LISTENER
    for info in (EMBEDDER, None):
        with pytest.raises(HearthError, match="listens to speech") as refused:
            require_listener(target_of(info), None)
        assert (refused.value.code, refused.value.param) == (Code.INVALID, "model")


async def test_a_task_gets_its_file_once_it_is_known_who_listens(tmp_path: Path) -> None:
    wanted = Transcribe(request_id="", listening=Listening(language="de"), num_bytes=0)
    with Recording(tmp_path, 100) as recording:
        make_task = for_listener(wanted, recording)
        await recording.write(b"sound")
        task = make_task(target_of(LISTENER))
        assert (task.num_bytes, task.sha256) == (5, recording.sha256)
        english = target_of(replace(LISTENER, is_multilingual=False))
        with pytest.raises(HearthError, match="English only"):
            make_task(english)
        with pytest.raises(HearthError, match="English only"):
            for_listener(Align(request_id="", text="a", num_bytes=0, language="de"), recording)(english)


def test_an_english_model_knows_english_only() -> None:
    english = target_of(replace(LISTENER, is_multilingual=False))
    for language in (None, "en"):
        require_listener(english, language)
    with pytest.raises(HearthError, match="English only"):
        require_listener(english, "de")
    with pytest.raises(HearthError, match="translates nothing"):
        require_listener(english, None, is_translated=True)


def test_languages_are_told_by_code_or_name() -> None:
    assert to_language(None) is None
    assert to_language("German") == to_language("de") == "de"
    for text in ("zh-Hant", "klingon"):
        with pytest.raises(HearthError, match="language: "):
            to_language(text)


def test_a_file_is_expected_to_last_as_long_as_its_size_allows() -> None:
    assert demand_of_sound(750).audio_ms == 1000
    assert demand_of_sound(2**40).audio_ms == AUDIO_S_MAX * 1000


async def recorded(directory: Path, content: bytes) -> str | None:
    with Recording(directory, 10**7) as recording:
        await recording.write(content)
        return named_url(recording)


async def test_a_url_in_the_files_place_is_told_from_sound(tmp_path: Path) -> None:
    assert await recorded(tmp_path, b"https://sounds.test/x.mp3\n") == "https://sounds.test/x.mp3"
    assert await recorded(tmp_path, b"HTTP://sounds.test/x.mp3") == "HTTP://sounds.test/x.mp3"
    for sound in (b"RIFF....", b"https", b"https://\xff", b"https://" + b"x" * 9000, b"https://" + SOUND):
        assert await recorded(tmp_path, sound) is None


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=SOUND)

    app = web.Application()
    app.router.add_get("/x.wav", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def fetched(directory: Path, url: str, bytes_max: int = 10**7, **settings: Any) -> bytes:
    with Recording(directory, bytes_max) as recording:
        await recording.write(url.encode())
        await fetch_recording(url, recording, SpeechSettings(**settings), "file")
        return b"".join([chunk.data async for chunk in recording.chunks("r1")])


async def test_sound_is_fetched_from_where_the_operator_allows(tmp_path: Path, origin: str) -> None:
    assert await fetched(tmp_path, f"{origin}/x.wav", audio_origins=[origin]) == SOUND
    with pytest.raises(HearthError, match=r"sound files are not fetched here .setting audio_origins.; send the file"):
        await fetched(tmp_path, f"{origin}/x.wav")
    with pytest.raises(HearthError, match=r"not fetched from '127.0.0.1'"):
        await fetched(tmp_path, f"{origin}/x.wav", audio_origins=["https://sounds.test"])
    with pytest.raises(HearthError, match="at most 1000 bytes") as refused:
        await fetched(tmp_path, f"{origin}/x.wav", bytes_max=1000, audio_origins=[origin])
    assert refused.value.code is Code.TOO_LARGE
