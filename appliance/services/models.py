"""Models: their rows, from creation to deletion. Their files are `model_files.py`'s.

No model is deleted while a deployment of any account uses it. A change that workers must be told of makes a new
revision of the deployments that serve the model: their replicas are replaced one by one.
"""

import builtins
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import DeployedModel, Deployment, Model, ModelKind, ModelState, Principal
from appliance.errors import Code, HearthError
from appliance.names import generate_id, validate_id
from appliance.services import audit
from appliance.services.access import can_see_account, can_see_model, not_found, require_account, require_change
from appliance.services.builtin_model import install_builtin_model
from appliance.services.deployment_models import find_named_model, present_model
from appliance.services.deployment_state import state_after_change
from appliance.services.model_files import ModelFiles
from appliance.services.model_spec import (
    BASE_MODEL,
    DRAFT_MODEL,
    ModelAsk,
    changed_model,
    check_against_files,
    check_ask,
    check_draft,
    check_same,
    invalid,
)
from appliance.services.targets import LEAVING, Askable, find_askable
from appliance.store import deployed_models, deployments, models
from appliance.store.database import Connection, Database, Transaction
from models.builtin import BuiltinModel
from models.fireworks_json import ConversationConfig
from models.refusal import ModelRefused

logger = logging.getLogger(__name__)

NOTHING = ConversationConfig(style="")
"""Asked for: that nothing is said of conversations."""


class Models:
    def __init__(
        self,
        database: Database,
        settings: IdentitySettings,
        files: ModelFiles,
        *,
        uploads_dir: Path,
        builtins: Sequence[BuiltinModel],
    ) -> None:
        self.on_delete: Callable[[str], None] = lambda model_name: None
        """Told of each model that is gone, before its files are; set by the wiring."""
        self._database = database
        self._settings = settings
        self._files = files
        self._uploads_dir = uploads_dir
        self._builtins = builtins

    async def install_builtin(self) -> None:
        """Bring the built-in models into the library; a newer one replaces the one there.

        A damaged one is reported in the log and left out: it must not keep the other models from being served.
        """
        library = self._settings.library_account_id
        for builtin in self._builtins:
            try:
                await install_builtin_model(self._database, library, builtin, self._files.directory, self._uploads_dir)
            except ModelRefused as refused:
                logger.error("the built-in model %s cannot be installed: %s", builtin.id, refused.message)

    async def create(self, principal: Principal, account_id: str, model_id: str, ask: ModelAsk) -> Model:
        """One that waits for its files. What only inspection can know of it is not taken from `ask`."""
        validate_id(model_id, "modelId")
        require_account(principal, account_id, self._settings)
        require_change(principal, account_id, f"accounts/{account_id}/models/{model_id}", self._settings)
        with _named_below("model."):
            check_ask(ask)
            model = await self._new_model(principal, account_id, model_id, ask)
            if ask.conversation_config not in (None, NOTHING):
                await self._files.with_conversation_config(model, _base_models_own(model, ask))
        try:
            async with self._database.transaction() as tx:
                model = replace(model, created_at=tx.now, updated_at=tx.now)
                if await models.get(tx.connection, account_id, model_id) is not None:
                    raise HearthError(Code.CONFLICT, f"{model.name} already exists", "modelId")
                await models.insert(tx, model)
                await audit.record(tx, principal, model.name, ask.given())
        except HearthError:
            await self._files.discard(model)
            raise
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
        found = await self._database.remembered(models.list_in_account, account_id)
        visible = [model for model in found if can_see_model(principal, model, self._settings)]
        if not visible:
            require_account(principal, account_id, self._settings)
        return visible

    async def list_after(
        self, principal: Principal, account_id: str, after_id: str, limit: int
    ) -> tuple[builtins.list[Model], int] | None:
        """A page by id and how many there are; None of an account of which only a part can be seen."""
        if not can_see_account(principal, account_id, self._settings):
            return None
        async with self._database.reader() as db:
            page = await models.list_after(db, account_id, after_id, limit)
            return page, await models.count_in_account(db, account_id)

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

    async def update(self, principal: Principal, account_id: str, model_id: str, ask: ModelAsk) -> Model:
        """Take over what is given. What workers must be told of makes a new revision of the deployments."""
        check_ask(ask)
        model = await self._files.get_to_change(principal, account_id, model_id)
        async with self._files.lock(model.name):
            model = await self._files.get_to_change(principal, account_id, model_id)
            async with self._database.reader() as db:
                await self._changed(db, principal, model, ask)  # before any file is touched
            refiled = await self._with_conversation(model, ask)
            try:
                async with self._database.transaction() as tx:
                    changed = await self._changed(tx.connection, principal, refiled, ask)
                    changed = replace(changed, updated_at=tx.now)
                    await models.update(tx, changed)
                    await audit.record(tx, principal, changed.name, ask.given())
                    if changed.served_info != model.served_info:
                        await _replace_workers(tx, changed)
            except HearthError:
                if refiled.directory != model.directory:
                    await self._files.discard(refiled)
                raise
            if refiled.directory != model.directory:
                self._files.retire(model)
        return changed

    async def delete(self, principal: Principal, account_id: str, model_id: str) -> None:
        model = await self._files.get_to_change(principal, account_id, model_id)
        async with self._files.lock(model.name):
            model = await self._files.get_to_change(principal, account_id, model_id)
            async with self._database.transaction() as tx:
                await _require_unused(tx.connection, principal, model)
                await models.delete(tx, account_id, model_id)
                await audit.record(tx, principal, model.name)
            self.on_delete(model.name)
            await self._files.remove(model)

    async def _new_model(self, principal: Principal, account_id: str, model_id: str, ask: ModelAsk) -> Model:
        kind = ask.kind or (ModelKind.HF_PEFT_ADDON if ask.base_model else ModelKind.HF_BASE_MODEL)
        if kind.is_addon != bool(ask.base_model):
            raise invalid(BASE_MODEL, "an addon has one, a base model none")
        model = Model(
            account_id=account_id,
            id=model_id,
            kind=kind,
            state=ModelState.UPLOADING,
            directory=generate_id(16),
            created_by=principal.user_id,
            created_at=0.0,
            updated_at=0.0,
        )
        async with self._database.reader() as db:
            if ask.base_model:
                model = replace(model, base_model=await self._find_base(db, principal, ask.base_model))
            return await self._changed(db, principal, model, replace(ask, kind=None, base_model=None, found={}))

    async def _changed(self, db: Connection, principal: Principal, model: Model, ask: ModelAsk) -> Model:
        """The row as it is asked for, if it may be so."""
        base_model = await self._find_base(db, principal, ask.base_model) if ask.base_model else None
        check_same(model, ask, base_model)
        changed = changed_model(model, ask)
        check_against_files(changed)
        draft = None
        if changed.default_draft_model is not None:
            if changed.default_draft_model == model.default_draft_model:
                draft = await present_model(db, changed.default_draft_model, DRAFT_MODEL)
            else:
                draft = await find_named_model(db, principal, changed.default_draft_model, DRAFT_MODEL, self._settings)
            changed = replace(changed, default_draft_model=draft.name)
        elif model.default_draft_model is not None and ask.default_draft_token_count is None:
            changed = replace(changed, default_draft_token_count=None)
        check_draft(changed, draft)
        return changed

    async def _find_base(self, db: Connection, principal: Principal, text: str) -> str:
        base = await find_named_model(db, principal, text, BASE_MODEL, self._settings)
        if base.base_model is not None:
            raise invalid(BASE_MODEL, f"{base.name} is an addon itself")
        return base.name

    async def _with_conversation(self, model: Model, ask: ModelAsk) -> Model:
        """The model itself, unless it is READY and is to have another config."""
        if ask.conversation_config is None:
            return model
        wanted = _base_models_own(model, ask)
        if wanted == await self._files.conversation_config(model):
            return model
        return await self._files.with_conversation_config(model, wanted)


def _base_models_own(model: Model, ask: ModelAsk) -> ConversationConfig | None:
    if model.base_model is not None and ask.conversation_config != NOTHING:
        raise invalid("conversationConfig", "an addon is asked through its base model's template")
    return None if ask.conversation_config == NOTHING else ask.conversation_config


async def _replace_workers(tx: Transaction, model: Model) -> None:
    """All deployments that serve it, of every account."""
    for deployment in await deployments.list_of_model(tx.connection, model.name):
        if deployment.base_model == model.name and deployment.state not in LEAVING:
            changed = replace(
                deployment,
                revision=deployment.revision + 1,
                state=state_after_change(deployment, True),
                updated_at=tx.now,
            )
            await deployments.update(tx, changed)
            await audit.record_own_act(tx, "UpdateDeployment", deployment.name, f"{model.name} was changed")


async def _require_unused(db: Connection, principal: Principal, model: Model) -> None:
    uses: builtins.list[tuple[Sequence[Deployment | DeployedModel | Model], str, str]] = [
        (await deployments.list_of_model(db, model.name), "in use by", "delete those first"),
        (await deployed_models.list_everywhere_of_model(db, model.name), "deployed as", "undeploy it first"),
        (await models.list_drafted_by(db, model.name), "the default draft model of", "give those another"),
    ]
    for users, how, advice in uses:
        if users:
            named = ", ".join(user.name for user in users if user.account_id == principal.account_id)
            raise HearthError(
                Code.FAILED_PRECONDITION, f"{model.name} is {how} {named or 'others, in other accounts'}; {advice}"
            )


@contextmanager
def _named_below(prefix: str) -> Iterator[None]:
    """In the body of a creation the model is a member, and its fields are spelled so."""
    try:
        yield
    except HearthError as error:
        if error.param is None:
            raise
        raise HearthError(
            error.code, f"{prefix}{error.message}", f"{prefix}{error.param}", reason=error.reason
        ) from error
