"""Files of models: uploaded, downloaded, and inspected, which is the one way from UPLOADING to READY.

Row and folder agree after any crash: files arrive before the row says READY and leave after the row is gone. Also
where transfers bring files to and take them from (`transfers.Place`).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from weakref import WeakValueDictionary

from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import Model, ModelKind, ModelState, Precision, Preparation, Principal, prepared_folder
from appliance.errors import Code, HearthError
from appliance.names import ResourceName, generate_id
from appliance.services import audit
from appliance.services.access import can_look_inside, not_found, require_change
from appliance.services.deployment_models import find_named_model, present_model
from appliance.services.grants import Grant, check_paths
from appliance.services.model_folders import link_files, list_sizes, make_folder, read_config, take_in, write_config
from appliance.services.model_spec import BASE_MODEL, DRAFT_MODEL, check_against_files, check_draft, invalid, kind_found
from appliance.services.quotas import QuotaMetric, require_room
from appliance.services.targets import find_model
from appliance.services.transfers import Transfers
from appliance.services.uploads import ReceivedFile
from appliance.store import models
from appliance.store.database import Database
from appliance.store.durable_files import remove_tree
from models.addons import inspect_addon
from models.fireworks_json import FIREWORKS_JSON, ConversationConfig
from models.image_addons import inspect_image_addon
from models.info import AddonInfo, AnyServedInfo, DiffusionInfo, ModelInfo
from models.inspection import check_config, inspect_model
from models.llm_folder import inspect_llm
from models.refusal import ModelRefused

logger = logging.getLogger(__name__)

COLLECTION = "models"
WORK_SUFFIX = ".preparing"
"""Of a folder beside a model's, in which another checkpoint is being made of it."""


class ModelFiles:
    takes_folders = True

    def __init__(
        self, database: Database, settings: IdentitySettings, transfers: Transfers, *, models_dir: Path
    ) -> None:
        """The directory exists and shares a file system with the one that transfers receive into."""
        self.directory = models_dir
        self._database = database
        self._settings = settings
        self._transfers = transfers
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._replaced: dict[str, list[str]] = {}
        """Folders that workers of a model may still read; by its name. Others are swept at the next start."""
        transfers.register(COLLECTION, self)

    async def sweep(self) -> None:
        """Remove folders that no model owns, which a crash left. Before anything is served."""
        owned = await self.list_directories()
        for path in await asyncio.to_thread(lambda: list(self.directory.iterdir())):
            if path.name.removesuffix(WORK_SUFFIX) not in owned:
                logger.info("removing the folder %s, which no model owns", path.name)
                await asyncio.to_thread(remove_tree, path)

    def lock(self, name: str) -> asyncio.Lock:
        """Held while a model's files must stand still: inspected, added to, replaced, removed."""
        return self._locks.setdefault(name, asyncio.Lock())

    def work_folder(self, model: Model) -> Path:
        """Where another checkpoint is made of the model's weights; it need not be there."""
        return self.directory / f"{model.directory}{WORK_SUFFIX}"

    async def get_to_change(self, principal: Principal, account_id: str, model_id: str) -> Model:
        model = await self._get(principal, account_id, model_id)
        require_change(principal, account_id, model.name, self._settings, model.created_by)
        return model

    # ---- up and down

    async def upload_urls(
        self,
        principal: Principal,
        account_id: str,
        model_id: str,
        filename_to_size: dict[str, int],
        base_url: str,
        is_resumable: bool = False,
    ) -> dict[str, str]:
        """One URL per file. What is announced counts against the account's disk quota from now on."""
        model = await self.get_to_change(principal, account_id, model_id)
        require_uploading(model)
        check_paths({**model.announced_files, **filename_to_size}.keys(), "filenameToSize")
        urls = self._transfers.upload_urls(
            COLLECTION, account_id, model_id, model.directory, filename_to_size, base_url, is_resumable
        )
        async with self.lock(model.name):
            model = await self.get_to_change(principal, account_id, model_id)
            require_uploading(model)
            await self._announce(principal, model, {**model.announced_files, **filename_to_size}, ["filenameToSize"])
        return urls

    async def announce_import(
        self, principal: Principal, account_id: str, model_id: str, sizes: dict[str, int], imported_from: str
    ) -> Model:
        """These are all files that it will have, and where they come from."""
        async with self.lock(str(ResourceName(account_id, COLLECTION, model_id))):
            model = await self.get_to_change(principal, account_id, model_id)
            require_uploading(model)
            return await self._announce(principal, replace(model, imported_from=imported_from), sizes, ["importedFrom"])

    async def _announce(self, principal: Principal, model: Model, sizes: dict[str, int], fields: list[str]) -> Model:
        size_bytes = sum(sizes.values())
        async with self._database.transaction() as tx:
            await require_room(tx, model.account_id, QuotaMetric.DISK_BYTES, size_bytes - model.size_bytes)
            model = replace(model, announced_files=sizes, size_bytes=size_bytes, updated_at=tx.now)
            await models.update(tx, model)
            await audit.record(tx, principal, model.name, fields)
        return model

    async def download_urls(
        self, principal: Principal, account_id: str, model_id: str, base_url: str
    ) -> dict[str, str]:
        """Of its own checkpoint. Weights are handed to nobody of another account, who may only ask them."""
        model = await self._get(principal, account_id, model_id)
        if not can_look_inside(principal, account_id, self._settings):
            raise HearthError(Code.FORBIDDEN, f"only the account of {model.name} may download it")
        require_ready(model)
        filenames = _own_files(model, await asyncio.to_thread(list_sizes, self.directory / model.directory))
        async with self._database.transaction() as tx:
            await audit.record(tx, principal, model.name)
        return self._transfers.download_urls(COLLECTION, account_id, model_id, model.directory, filenames, base_url)

    async def require(self, grant: Grant) -> None:
        await self._require_same(
            grant.account_id,
            grant.resource_id,
            grant.directory,
            require_uploading if grant.is_upload else require_ready,
        )

    async def receive(self, grant: Grant, file: ReceivedFile) -> None:
        async with self.lock(f"accounts/{grant.account_id}/models/{grant.resource_id}"):
            await self.require(grant)
            await asyncio.to_thread(take_in, file.path, self.directory / grant.directory, grant.filename)

    async def take_in(self, model: Model, filename: str, part: Path) -> None:
        """A file that did not come by an URL."""
        async with self.lock(model.name):
            await self._require_same(model.account_id, model.id, model.directory, require_uploading)
            await asyncio.to_thread(take_in, part, self.directory / model.directory, filename)

    async def list_directories(self) -> set[str]:
        async with self._database.reader() as db:
            return await models.list_directories(db)

    # ---- inspected

    async def validate_upload(self, principal: Principal, account_id: str, model_id: str) -> list[str]:
        """Inspect the folder and make the model READY; what was found and ignored. Asked again, says the same again."""
        model = await self.get_to_change(principal, account_id, model_id)
        async with self.lock(model.name):
            model = await self.get_to_change(principal, account_id, model_id)
            known = model.info or model.addon_info
            return known.warnings if known is not None else await self._make_ready(principal, model)

    async def check_config(self, principal: Principal, account_id: str, model_id: str) -> list[str]:
        """Whether config.json alone is of a model that can be served; the model stays as it is."""
        model = await self.get_to_change(principal, account_id, model_id)
        if model.base_model is not None:
            raise HearthError(Code.INVALID, "configOnly: an addon has no config.json", "configOnly")
        async with self.lock(model.name):
            try:
                directory = self.directory / model.directory
                return await asyncio.to_thread(check_config, directory, is_for_embedding=_is_for_embedding(model))
            except ModelRefused as refused:
                raise refusal(refused) from refused

    async def _make_ready(self, principal: Principal, model: Model) -> list[str]:
        base = await self._find_base(principal, model)
        try:
            found = await self._inspect(model, base)
        except ModelRefused as refused:
            async with self._database.transaction() as tx:
                await models.update(tx, replace(model, status_message=refused.message, updated_at=tx.now))
                await audit.record(tx, principal, model.name)
            raise refusal(refused) from refused
        sizes = await asyncio.to_thread(list_sizes, self.directory / model.directory)
        facts = {"addon_info" if isinstance(found, AddonInfo) else "info": found}
        kind = kind_found(model, found, base)
        async with self._database.transaction() as tx:
            ready = replace(
                model,
                kind=kind,
                state=ModelState.READY,
                status_message="",
                size_bytes=sum(sizes.values()),
                announced_files={},
                updated_at=tx.now,
                **facts,
            )
            check_against_files(ready)
            if ready.default_draft_model is not None:
                check_draft(ready, await present_model(tx.connection, ready.default_draft_model, DRAFT_MODEL))
            await require_room(tx, model.account_id, QuotaMetric.DISK_BYTES, ready.size_bytes - model.size_bytes)
            await models.update(tx, ready)
            await audit.record(tx, principal, model.name)
        return found.warnings

    async def _get(self, principal: Principal, account_id: str, model_id: str) -> Model:
        name = ResourceName(account_id, COLLECTION, model_id)
        async with self._database.reader() as db:
            model = await find_model(db, principal, name, self._settings)
        if model is None:
            raise not_found(str(name))
        return model

    async def _require_same(
        self, account_id: str, model_id: str, directory: str, rule: Callable[[Model], None]
    ) -> None:
        """The model is the one that was meant, not a later one of the same name."""
        async with self._database.reader() as db:
            model = await models.get(db, account_id, model_id)
        if model is None or model.directory != directory:
            raise not_found(f"accounts/{account_id}/models/{model_id}")
        rule(model)

    async def _find_base(self, principal: Principal, model: Model) -> Model | None:
        """Of an addon."""
        if model.base_model is None:
            return None
        async with self._database.reader() as db:
            base = await find_named_model(db, principal, model.base_model, BASE_MODEL, self._settings)
        if base.info is None:
            raise HearthError(Code.FAILED_PRECONDITION, f"{BASE_MODEL}: {base.name} is {base.state}", BASE_MODEL)
        return base

    async def _inspect(self, model: Model, base: Model | None) -> AnyServedInfo | AddonInfo:
        directory = self.directory / model.directory
        if base is None:
            return await asyncio.to_thread(inspect_model, directory, is_for_embedding=_is_for_embedding(model))
        base_directory = self.directory / base.directory
        match base.info:
            case ModelInfo() as info:
                return await asyncio.to_thread(inspect_addon, directory, base_directory, info)
            case DiffusionInfo() as image_info:
                return await asyncio.to_thread(inspect_image_addon, directory, base_directory, image_info)
        raise invalid(BASE_MODEL, f"{base.name} is neither a language model nor one that makes pictures")

    # ---- the conversation config

    async def conversation_config(self, model: Model) -> ConversationConfig | None:
        known = model.info or model.addon_info
        if known is not None and FIREWORKS_JSON not in known.file_sha256:
            return None  # most have none, and need no look at the disk
        return await asyncio.to_thread(read_config, self.directory / model.directory)

    async def with_conversation_config(self, model: Model, config: ConversationConfig | None) -> Model:
        """Only under the model's lock. Of a READY model: as it is with the new config, in a folder of its own, for
        the caller to commit or to `discard`; of another the file is written at once.
        """
        try:
            if model.info is None:
                await asyncio.to_thread(write_config, self.directory / model.directory, config)
                return model
            if model.llm_info is None:
                raise invalid("conversationConfig", "only language models have one")
            return await asyncio.to_thread(self._fork, model, model.llm_info, config)
        except ModelRefused as refused:
            raise invalid("conversationConfig", refused.message) from refused

    def retire(self, model: Model) -> None:
        """Another folder has taken this one's place; workers may read it until they are replaced."""
        self._replaced.setdefault(model.name, []).append(model.directory)

    async def discard(self, model: Model) -> None:
        """A folder that no row owns."""
        await asyncio.to_thread(remove_tree, self.directory / model.directory)

    async def remove(self, model: Model) -> None:
        """All files, once the row is gone."""
        for directory in (model.directory, *self._replaced.pop(model.name, [])):
            await asyncio.to_thread(remove_tree, self.directory / directory)
        await asyncio.to_thread(remove_tree, self.work_folder(model))

    def _fork(self, model: Model, info: ModelInfo, config: ConversationConfig | None) -> Model:
        source = self.directory / model.directory
        forked = replace(model, directory=generate_id(16))
        target = self.directory / forked.directory
        try:
            make_folder(target)
            link_files(source, target, _own_files(model, list_sizes(source)))
            write_config(target, config)
            forked = replace(forked, info=inspect_llm(target, info.file_sha256))
            prepared = {
                precision: _fork_prepared(source, target, precision, preparation, config)
                for precision, preparation in model.preparations.items()
            }
            return replace(forked, preparations=prepared)
        except ModelRefused:
            remove_tree(target)
            raise


def _fork_prepared(
    source: Path, target: Path, precision: Precision, preparation: Preparation, config: ConversationConfig | None
) -> Preparation:
    """Another checkpoint of a model, whose folder `source` becomes `target` with another config."""
    if preparation.info is None:
        return preparation
    folder = target / prepared_folder(precision)
    make_folder(folder)
    link_files(source / folder.name, folder, sorted(list_sizes(source / folder.name)))
    write_config(folder, config)
    return replace(preparation, info=inspect_llm(folder, preparation.info.file_sha256))


def _own_files(model: Model, sizes: Mapping[str, int]) -> list[str]:
    """Of all files in its folder, those that no preparation has made."""
    made = tuple(f"{prepared_folder(precision)}/" for precision in model.preparations)
    return sorted(name for name in sizes if not name.startswith(made))


def _is_for_embedding(model: Model) -> bool:
    return model.kind is ModelKind.EMBEDDING_MODEL


def refusal(refused: ModelRefused) -> HearthError:
    return HearthError(Code.INVALID, refused.message, reason=refused.reason)


def require_uploading(model: Model) -> None:
    if model.state is not ModelState.UPLOADING:
        raise HearthError(
            Code.FAILED_PRECONDITION, f"{model.name} is {model.state} and takes no more files; create a new model"
        )


def require_ready(model: Model) -> None:
    if model.state is not ModelState.READY:
        raise HearthError(Code.FAILED_PRECONDITION, f"{model.name} is {model.state}; its files are not complete")
