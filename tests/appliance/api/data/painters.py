"""Models that draw, with deployments, in the account of the API's tests; and how they are asked."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec

from appliance.domain import Role
from models.info import DiffusionInfo
from runtime.tasks.images import Draw
from tests.appliance.api.conftest import Api
from tests.appliance.api.sample_objects import Making, Owner, make_served_model
from tests.fakes.scripted_drawing import FLUX_PAINTER, PAINTER

PIXEL = b"P6 1 1 255 \0\0\0"
"""The smallest image file."""


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]
    """By lower-case name."""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """Status, and the field that the message begins with too."""
        error = self.json["error"]
        assert error["message"].startswith((f"{error['param']}: ", f"`{error['param']}` ")), error
        return self.status, error["param"]

    @property
    def events(self) -> list[Any]:
        """Of a stream that came to its end."""
        *events, done, rest = self.body.decode().split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        return [msgspec.json.decode(event.rpartition("data: ")[2]) for event in events]


async def make_painter(api: Api, info: DiffusionInfo = PAINTER) -> str:
    """Its name."""
    async with api.services.node.database.transaction() as tx:
        making = Making(tx, Owner("hearth", Role.USER.value), api.services.config.data_dir)
        return await make_served_model(making, info)


async def make_flux_painter(api: Api) -> str:
    return await make_painter(api, FLUX_PAINTER)


async def post(api: Api, path: str, body: Mapping[str, Any], accept: str | None = None) -> Answer:
    """As JSON, or as a form where a field is bytes: a file."""
    headers = api.bearer() | ({} if accept is None else {"Accept": accept})
    is_form = any(isinstance(value, bytes) for value in body.values())
    content: dict[str, Any] = {"data": form_of(body)} if is_form else {"json": body}
    async with api.session.post(path, headers=headers, **content) as response:
        told = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, await response.read(), told)


def form_of(fields: Mapping[str, Any]) -> aiohttp.FormData:
    """None as clients write it."""
    form = aiohttp.FormData()
    for name, value in fields.items():
        if isinstance(value, bytes):
            form.add_field(name, io.BytesIO(value), filename="upload")
        else:
            form.add_field(name, "" if value is None else str(value))
    return form


def the_task(api: Api) -> Draw:
    (task,) = api.router.tasks
    assert isinstance(task, Draw)
    return task
