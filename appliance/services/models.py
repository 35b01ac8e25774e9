"""Models: rows, uploaded folders, and the one way from UPLOADING to READY: inspection.

Row and folder agree after any crash: files arrive before the row says READY and leave after the row is gone;
`sweep` removes what a crash left between. No model is deleted while a deployment of any account uses it.
"""

import asyncio
import builtins
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from appliance.config import IdentitySettings
from appliance.domain import Model, ModelKind, ModelState, Principal
from appliance.errors import Code, HearthError
from appliance.names import generate_id, validate_id
from appliance.services import uploads
from appliance.services.access import can_see_model, not_found, require_account, require_change
from appliance.services.builtin_model import BuiltinModel, install_builtin_model
from appliance.services.model_field import parse_model
from appliance.services.targets import Askable, find_askable, find_model
from appliance.services.uploads import Grant
from appliance.store import deployed_models, deployments, models
from appliance.store.database import Connection, Database
from appliance.store.durable_files import move_into_place, sync_directory
from models.addons import inspect_addon
from models.info import AddonInfo, ModelInfo
from models.inspection import ModelRefused, inspect_model

logger = logging.getLogger(__name__)

DISPLAY_NAME_LENGTH_MAX = 63
DESCRIPTION_LENGTH_MAX = 1000
FILES_MAX = 1000
BASE_MODEL = "model.peftDetails.baseModel"


class Models:
    def __init__(
        self,
        database: Database,
        settings: IdentitySettings,
        *,
        models_dir: Path,
        uploads_dir: Path,
        signing_key: bytes,
        file_bytes_max: int,
        builtin: BuiltinModel,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Both directories exist and share a file system."""
        self.on_delete: Callable[[str], None] = lambda model_name: None
        """Told of each model that is gone, before its files are; set by the wiring."""
        self._database = database
        self._settings = settings
        self._models_dir = models_dir
        self._uploads_dir = uploads_dir
        self._signing_key = signing_key
        self._file_bytes_max = file_bytes_max
        self._builtin = builtin
        self._clock = clock
        self._folder_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def install_builtin(self) -> None:
        """Bring the built-in model into the library; a newer one replaces the one there.

        A damaged one is reported in the log and left out: it must not keep the other models from being served.
        """
        library = self._settings.library_account_id
        try:
            await install_builtin_model(self._database, library, self._builtin, self._models_dir, self._uploads_dir)
        except ModelRefused as refused:
            logger.error("the built-in model cannot be installed: %s", refused.message)

    async def sweep(self) -> None:
        """Remove what a crash left: half-received files, and folders that no model owns. Before anything is served."""
        async with self._database.reader() as db:
            owned = await models.list_directories(db)
        await asyncio.to_thread(_remove_children, self._uploads_dir, set())
        await asyncio.to_thread(_remove_children, self._models_dir, owned)

    async def create(
        self,
        principal: Principal,
        account_id: str,
        model_id: str,
        *,
        display_name: str,
        description: str,
        kind: ModelKind,
        is_public: bool,
        base_model: str | None = None,
    ) -> Model:
        """`base_model` is what an addon changes, and nothing but an addon has one."""
        validate_id(model_id, "modelId")
        _check_length(display_name, DISPLAY_NAME_LENGTH_MAX, "model.displayName")
        _check_length(description, DESCRIPTION_LENGTH_MAX, "model.description")
        require_account(principal, account_id, self._settings)
        if (kind is ModelKind.HF_PEFT_ADDON) != (base_model is not None):
            raise HearthError(Code.INVALID, f"{BASE_MODEL}: an addon has one, a base model none", BASE_MODEL)
        async with self._database.transaction() as tx:
            if base_model is not None:
                base_model = (await self._find_base(tx.connection, principal, base_model)).name
            model = Model(
                account_id=account_id,
                id=model_id,
                display_name=display_name,
                description=description,
                kind=kind,
                state=ModelState.UPLOADING,
                is_public=is_public,
                directory=generate_id(16),
                base_model=base_model,
                created_by=principal.user_id,
                created_at=tx.now,
                updated_at=tx.now,
            )
            require_change(principal, account_id, model.name, self._settings)
            if await models.get(tx.connection, account_id, model_id) is not None:
                raise HearthError(Code.CONFLICT, f"{model.name} already exists", "modelId")
            await models.insert(tx, model)
        return model

    async def get(self, principal: Principal, account_id: str, model_id: str) -> Model:
        """Own, the library's, and what others made public once it is READY."""
        async with self._database.reader() as db:
            model = await models.get(db, account_id, model_id)
        if model is None or not can_see_model(principal, model, self._settings):
            raise not_found(f"accounts/{account_id}/models/{model_id}")
        return model

    async def list(self, principal: Principal, account_id: str) -> builtins.list[Model]:
        """By id; of another's account, what is public."""
        async with self._database.reader() as db:
            found = await models.list_in_account(db, account_id)
        visible = [model for model in found if can_see_model(principal, model, self._settings)]
        if not visible:
            require_account(principal, account_id, self._settings)
        return visible

    async def list_askable(self, principal: Principal) -> builtins.list[Askable]:
        """What a request can name: own models, then the library's, then what others made public."""
        own, library = principal.account_id, self._settings.library_account_id
        async with self._database.reader() as db:
            found = [
                *await models.list_in_account(db, own),
                *(await models.list_in_account(db, library) if library != own else []),
                *(model for model in await models.list_public(db) if model.account_id not in (own, library)),
            ]
            known = [await find_askable(db, principal, model, self._settings) for model in found]
        return [askable for askable in known if askable is not None]

    async def get_askable(self, principal: Principal, account_id: str, model_id: str) -> Askable:
        async with self._database.reader() as db:
            model = await models.get(db, account_id, model_id)
            askable = None if model is None else await find_askable(db, principal, model, self._settings)
        if askable is None:
            raise not_found(f"accounts/{account_id}/models/{model_id}", "model")
        return askable

    async def delete(self, principal: Principal, account_id: str, model_id: str) -> None:
        model = await self._get_to_change(principal, account_id, model_id)
        async with self._folder_lock(model.directory):
            async with self._database.transaction() as tx:
                users = await deployments.list_of_model(tx.connection, model.name)
                if users:
                    named = ", ".join(user.id for user in users if user.account_id == principal.account_id)
                    raise HearthError(
                        Code.FAILED_PRECONDITION,
                        f"{model.name} is in use by {named or 'deployments of other accounts'}; delete those first",
                    )
                places = await deployed_models.list_everywhere_of_model(tx.connection, model.name)
                if places:
                    named = ", ".join(place.name for place in places if place.account_id == principal.account_id)
                    raise HearthError(
                        Code.FAILED_PRECONDITION,
                        f"{model.name} is deployed as {named or 'a model of another account'}; undeploy it first",
                    )
                await models.delete(tx, account_id, model_id)
            self.on_delete(model.name)
            await asyncio.to_thread(_remove, self._models_dir / model.directory)

    async def upload_urls(
        self, principal: Principal, account_id: str, model_id: str, filename_to_size: dict[str, int], base_url: str
    ) -> dict[str, str]:
        """One URL per file, for a PUT without a key; may be asked for again, a file that comes again replaces."""
        model = await self._get_to_change(principal, account_id, model_id)
        _require_uploading(model)
        if not 0 < len(filename_to_size) <= FILES_MAX:
            raise HearthError(Code.INVALID, f"filenameToSize: between 1 and {FILES_MAX} files", "filenameToSize")
        expires_at = self._clock() + uploads.URL_LIFETIME_S
        urls = {}
        for filename, size_bytes in filename_to_size.items():
            uploads.check_filename(filename, "filenameToSize")
            if not 0 <= size_bytes <= self._file_bytes_max:
                raise HearthError(
                    Code.TOO_LARGE, f"{filename}: between 0 and {self._file_bytes_max} bytes", "filenameToSize"
                )
            grant = Grant(account_id, model_id, model.directory, filename, size_bytes, expires_at)
            urls[filename] = f"{base_url}/v1/uploads/{uploads.sign(grant, self._signing_key)}/{filename}"
        return urls

    async def receive_file(self, token: str, filename: str, chunks: AsyncIterator[bytes]) -> str:
        """What a PUT to a signed URL brings; the file's SHA-256 once it is safely in the model's folder."""
        grant = uploads.verify(token, filename, self._signing_key, self._clock())
        await self._require_grant(grant)
        await asyncio.to_thread(uploads.require_space, self._uploads_dir, grant.size_bytes)
        async with (
            uploads.received(self._uploads_dir, grant, chunks) as file,
            self._folder_lock(grant.directory),
        ):
            await self._require_grant(grant)
            await asyncio.to_thread(_take_in, file.path, self._models_dir / grant.directory, filename)
        return file.sha256

    async def validate_upload(self, principal: Principal, account_id: str, model_id: str) -> builtins.list[str]:
        """Inspect the folder and make the model READY; what was found and ignored. Asked again, says the same again."""
        model = await self._get_to_change(principal, account_id, model_id)
        async with self._folder_lock(model.directory):
            model = await self._get_to_change(principal, account_id, model_id)
            known = model.info or model.addon_info
            if known is not None:
                return known.warnings
            try:
                found = await self._inspect(principal, model)
            except ModelRefused as refused:
                await self._update(model, status_message=refused.message)
                raise HearthError(Code.INVALID, refused.message, reason=refused.reason) from refused
            facts = {"addon_info" if isinstance(found, AddonInfo) else "info": found}
            await self._update(model, state=ModelState.READY, status_message="", **facts)
            return found.warnings

    async def _inspect(self, principal: Principal, model: Model) -> ModelInfo | AddonInfo:
        directory = self._models_dir / model.directory
        if model.base_model is None:
            return await asyncio.to_thread(inspect_model, directory)
        async with self._database.reader() as db:
            base = await self._find_base(db, principal, model.base_model)
        if base.info is None:
            raise HearthError(Code.FAILED_PRECONDITION, f"{BASE_MODEL}: {base.name} is {base.state}", BASE_MODEL)
        return await asyncio.to_thread(inspect_addon, directory, self._models_dir / base.directory, base.info)

    async def _find_base(self, db: Connection, principal: Principal, text: str) -> Model:
        for name in parse_model(text, principal.account_id, self._settings.library_account_id):
            base = await find_model(db, principal, name, self._settings)
            if base is not None:
                if base.base_model is not None:
                    raise HearthError(Code.INVALID, f"{BASE_MODEL}: {base.name} is an addon itself", BASE_MODEL)
                return base
        raise not_found(f"{BASE_MODEL}: {text[:200]!r}", BASE_MODEL)

    def _folder_lock(self, directory: str) -> asyncio.Lock:
        """Held while the folder's content must stand still: inspected, added to, removed."""
        return self._folder_locks.setdefault(directory, asyncio.Lock())

    async def _get_to_change(self, principal: Principal, account_id: str, model_id: str) -> Model:
        model = await self.get(principal, account_id, model_id)
        require_change(principal, account_id, model.name, self._settings, model.created_by)
        return model

    async def _require_grant(self, grant: Grant) -> None:
        """The model is the one the URL was made for, not a later one of the same name, and still takes files."""
        async with self._database.reader() as db:
            model = await models.get(db, grant.account_id, grant.model_id)
        if model is None or model.directory != grant.directory:
            raise not_found(f"accounts/{grant.account_id}/models/{grant.model_id}")
        _require_uploading(model)

    async def _update(self, model: Model, **changes: object) -> None:
        """Only under the folder's lock, so that `model` is the row as it is."""
        async with self._database.transaction() as tx:
            await models.update(tx, msgspec.structs.replace(model, updated_at=tx.now, **changes))


def _require_uploading(model: Model) -> None:
    if model.state is not ModelState.UPLOADING:
        raise HearthError(
            Code.FAILED_PRECONDITION, f"{model.name} is {model.state} and takes no more files; create a new model"
        )


def _check_length(text: str, length_max: int, param: str) -> None:
    if len(text) > length_max:
        raise HearthError(Code.INVALID, f"{param}: at most {length_max} characters, has {len(text)}", param)


def _take_in(part: Path, folder: Path, filename: str) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700)
        sync_directory(folder.parent)
    move_into_place(part, folder / filename)


def _remove_children(directory: Path, kept: set[str]) -> None:
    for path in directory.iterdir():
        if path.name not in kept:
            logger.info("removing %s, which nothing refers to", path)
            _remove(path)


def _remove(path: Path) -> None:
    """What cannot be removed now is swept at the next start."""
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("cannot remove %s: %s", path, error)
