"""Accounts: the tenants of the box. Who keeps the box makes and suspends them; each looks after itself otherwise."""

import builtins
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import Account, Principal, Role, SuspendState
from appliance.errors import Code, HearthError
from appliance.names import validate_id
from appliance.services import audit
from appliance.services.access import can_see_account, keeps_box, not_found, require_keeper
from appliance.services.api_keys import ApiKeyAsk, CreatedKey, add
from appliance.services.contact_details import check_display_name, check_email
from appliance.services.first_start import administrator
from appliance.services.identity import Identity
from appliance.store import accounts, users
from appliance.store.database import Connection, Database


class AccountAsk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """None: not said, or as it is."""

    display_name: str | None = None
    email: str | None = None


class CreatedAccount(NamedTuple):
    account: Account
    first_key: CreatedKey
    """Of its administrator: nobody outside an account makes keys for those in it, so it begins with one."""


class Accounts:
    def __init__(self, database: Database, settings: IdentitySettings, identity: Identity) -> None:
        self._database = database
        self._settings = settings
        self._identity = identity

    async def create(self, principal: Principal, account_id: str, ask: AccountAsk) -> CreatedAccount:
        """With an administrator and his first key."""
        require_keeper(principal, self._settings, "create accounts")
        validate_id(account_id, "accountId")
        check(ask, "account.")
        async with self._database.transaction() as tx:
            if await accounts.get(tx.connection, account_id) is not None:
                raise HearthError(Code.CONFLICT, f"accounts/{account_id} already exists", "accountId")
            account = Account(
                id=account_id,
                display_name=ask.display_name or account_id,
                email=ask.email or "",
                created_at=tx.now,
                updated_at=tx.now,
            )
            await accounts.insert(tx, account)
            admin = administrator(account_id, account.email, tx.now)
            await users.insert(tx, admin)
            first_key = await add(tx, admin, ApiKeyAsk(display_name="first key"))
            await audit.record(tx, principal, account.name, audit.fields_given(ask))
        return CreatedAccount(account, first_key)

    async def get(self, principal: Principal, account_id: str) -> Account:
        async with self._database.reader() as db:
            return await self._find(db, principal, account_id)

    async def list(self, principal: Principal) -> builtins.list[Account]:
        """One's own; for who keeps the box, all."""
        async with self._database.reader() as db:
            found = await accounts.list_all(db)
        is_keeper = keeps_box(principal, self._settings)
        return [account for account in found if is_keeper or account.id == principal.account_id]

    async def update(self, principal: Principal, account_id: str, ask: AccountAsk) -> Account:
        check(ask)
        async with self._database.transaction() as tx:
            account = await self._find(tx.connection, principal, account_id)
            is_own = principal.account_id == account_id and principal.role is Role.ADMIN
            if not is_own:
                require_keeper(principal, self._settings, f"change {account.name}")
            changed = replace(
                account,
                display_name=account.display_name if ask.display_name is None else ask.display_name,
                email=account.email if ask.email is None else ask.email,
                updated_at=tx.now,
            )
            await accounts.update(tx, changed)
            await audit.record(tx, principal, account.name, audit.fields_given(ask))
        return changed

    async def suspend(self, principal: Principal, account_id: str, state: SuspendState) -> Account:
        """Also with UNSUSPENDED, which ends it. Effective at once; requests under way are finished."""
        async with self._identity.changing() as tx:
            account = await self._find(tx.connection, principal, account_id)
            require_keeper(principal, self._settings, f"suspend {account.name}")
            if account_id in (self._settings.account_id, self._settings.library_account_id):
                message = f"{account.name} belongs to the box itself and cannot be suspended"
                raise HearthError(Code.FAILED_PRECONDITION, message)
            changed = replace(account, suspend_state=state, updated_at=tx.now)
            await accounts.update(tx, changed)
            await audit.record(tx, principal, account.name)
        return changed

    async def _find(self, db: Connection, principal: Principal, account_id: str) -> Account:
        """Own, the library, or, for who keeps the box, any."""
        is_visible = can_see_account(principal, account_id, self._settings) or keeps_box(principal, self._settings)
        account = await accounts.get(db, account_id) if is_visible else None
        if account is None:
            raise not_found(f"accounts/{account_id}")
        return account


def check(ask: AccountAsk, prefix: str = "") -> None:
    check_display_name(ask.display_name or "", f"{prefix}displayName")
    check_email(ask.email or "", f"{prefix}email")
