"""Models, their files and the transfers that bring them, over one database and one folder."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from appliance.config import GIB, IdentitySettings
from appliance.domain import Model, ModelKind, Principal
from appliance.errors import HearthError
from appliance.services.model_files import ModelFiles
from appliance.services.model_spec import ModelAsk
from appliance.services.models import Models
from appliance.services.transfers import Transfers
from appliance.store.database import Database
from models.builtin import BuiltinModel
from tests.appliance.services.samples import ADA, SIGNING_KEY
from tests.fakes.fake_clock import FakeClock

BASE = "http://box:8080"


class ModelWorld:
    def __init__(
        self, root: Path, database: Database, clock: FakeClock, settings: IdentitySettings, builtin: Path
    ) -> None:
        self.models_dir, self.uploads_dir = root / "models", root / "uploads"
        for directory in (self.models_dir, self.uploads_dir):
            directory.mkdir(exist_ok=True)
        self.database = database
        self.transfers = Transfers(self.uploads_dir, SIGNING_KEY, GIB, clock)
        self.files = ModelFiles(database, settings, self.transfers, models_dir=self.models_dir)
        self.models = Models(
            database,
            settings,
            self.files,
            uploads_dir=self.uploads_dir,
            builtins=[BuiltinModel("ember-chat", builtin, "Ember")],
        )

    async def create(
        self,
        who: Principal = ADA,
        model_id: str = "poet",
        *,
        is_public: bool = False,
        kind: ModelKind = ModelKind.HF_BASE_MODEL,
    ) -> Model:
        ask = ModelAsk(display_name="Poet", description="rhymes", kind=kind, is_public=is_public)
        return await self.models.create(who, who.account_id, model_id, ask)

    async def create_addon(self, base_model: str | None, model_id: str = "rhymes") -> Model:
        ask = ModelAsk(kind=ModelKind.HF_PEFT_ADDON, base_model=base_model)
        return await self.models.create(ADA, "acme", model_id, ask)

    async def urls(
        self, sizes: dict[str, int], model_id: str = "poet", *, who: Principal = ADA, is_resumable: bool = False
    ) -> dict[str, str]:
        return await self.files.upload_urls(who, who.account_id, model_id, sizes, BASE, is_resumable)

    async def put(self, url: str, content: bytes) -> str | None:
        """What a PUT brings; the file's digest."""
        return (await self.transfers.receive(*token_and_filename(url), None, stream(content))).sha256

    async def upload(self, files: dict[str, bytes], model_id: str = "poet", *, who: Principal = ADA) -> None:
        urls = await self.urls({name: len(content) for name, content in files.items()}, model_id, who=who)
        for name, url in urls.items():
            await self.put(url, files[name])

    async def make_ready(
        self,
        folder: Path,
        model_id: str = "poet",
        *,
        who: Principal = ADA,
        kind: ModelKind = ModelKind.HF_BASE_MODEL,
    ) -> Model:
        """Created, uploaded and validated."""
        await self.create(who, model_id, kind=kind)
        await self.upload(read_files(folder), model_id, who=who)
        await self.files.validate_upload(who, who.account_id, model_id)
        return await self.models.get(who, who.account_id, model_id)


async def stream(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


def token_and_filename(url: str) -> tuple[str, str]:
    _, _, _, token, filename = urlsplit(url).path.split("/", 4)
    return token, filename


def read_files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


async def refusal(attempt: object) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value
