"""A model that listens, and requests to it as multipart forms."""

import io
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp

from appliance.domain import Model, ModelState
from appliance.errors import HearthError
from appliance.store import models
from runtime.protocol import AnyFollowUp, AnyPiece, OtherTask
from tests.appliance.api.conftest import Api, add_deployment
from tests.fakes.fake_router import TaskScript
from tests.fakes.scripted_speech import LISTENER

LISTENING_MODEL = "accounts/fireworks/models/whisper-v3"
ENGLISH_MODEL = "accounts/fireworks/models/whisper-en"
SOUND = b"RIFF" + bytes(range(256)) * 40
AUDIO = "/inference/v1/audio"
TRANSCRIPTIONS, TRANSLATIONS, ALIGNMENTS = f"{AUDIO}/transcriptions", f"{AUDIO}/translations", f"{AUDIO}/alignments"


async def add_listeners(api: Api) -> None:
    """One that knows many languages, by the name that requests without one mean, and one that knows English."""
    async with api.services.node.database.transaction() as tx:
        for name in (LISTENING_MODEL, ENGLISH_MODEL):
            _, account_id, _, model_id = name.split("/")
            info = LISTENER if name == LISTENING_MODEL else type(LISTENER)(**_fields(is_multilingual=False))
            model = Model(
                account_id=account_id,
                id=model_id,
                state=ModelState.READY,
                directory=model_id,
                info=info,
                created_at=tx.now,
                updated_at=tx.now,
            )
            await models.insert(tx, model)
            await add_deployment(tx, name, desired_replica_count=1)


def _fields(**changes: Any) -> dict[str, Any]:
    return {name: getattr(LISTENER, name) for name in LISTENER.__struct_fields__} | changes


def form_of(fields: dict[str, Any], sound: bytes | None = SOUND) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            form.add_field(name, each)
    if sound is not None:
        form.add_field("file", io.BytesIO(sound), filename="hello.wav")
    return form


def refusing(error: HearthError) -> TaskScript:
    """A worker that answers this before anything else."""

    async def refuse(task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None) -> AsyncGenerator[list[AnyPiece]]:
        for each in [error]:
            raise each
        yield []

    return refuse


async def post(api: Api, path: str, sound: bytes | None = SOUND, **fields: Any) -> tuple[int, Any, Any]:
    """Status, body (text unless it is JSON) and headers."""
    async with api.session.post(path, data=form_of(fields, sound), headers=api.bearer()) as response:
        is_json = response.content_type == "application/json"
        return response.status, await (response.json() if is_json else response.text()), response.headers


async def refusal(api: Api, path: str, sound: bytes | None = SOUND, **fields: Any) -> tuple[int, str | None, str]:
    """Status, param and message; nothing may have reached a worker."""
    status, body, _ = await post(api, path, sound, **fields)
    assert not api.router.tasks, body
    return status, body["error"]["param"], body["error"]["message"]
