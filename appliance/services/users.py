"""The users of an account, people and service accounts. Its administrators look after them; every member sees them.

An account always keeps an administrator, and nobody changes his own role.
"""

import builtins
import re

import msgspec
from msgspec.structs import replace

from appliance.domain import Principal, Role, User
from appliance.errors import Code, HearthError
from appliance.names import ID_LENGTH_MAX, generate_id, validate_id
from appliance.services import audit
from appliance.services.access import not_found, require_administrator, require_member
from appliance.services.contact_details import check_display_name, check_email
from appliance.services.identity import Identity
from appliance.store import api_keys, users
from appliance.store.database import Connection, Database

_NOT_IN_IDS = re.compile(r"[^a-z0-9]+")
_SUFFIX_LENGTH = 6


class UserAsk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """None: not said, or as it is."""

    role: Role | None = None
    display_name: str | None = None
    email: str | None = None
    service_account: bool | None = None


class Users:
    def __init__(self, database: Database, identity: Identity) -> None:
        self._database = database
        self._identity = identity

    async def create(self, principal: Principal, account_id: str, user_id: str | None, ask: UserAsk) -> User:
        """Without an id it gets one after its e-mail address."""
        require_administrator(principal, account_id, "users")
        if ask.role is None:
            raise HearthError(Code.INVALID, f"role: say which of {', '.join(Role)}", "role")
        if user_id is not None:
            validate_id(user_id, "userId")
        elif not ask.email:
            raise HearthError(Code.INVALID, "userId: give an id, or an email to make one from", "userId")
        check(ask)
        async with self._database.transaction() as tx:
            if user_id is None:
                user_id = await _free_id(tx.connection, account_id, ask.email or "")
            user = User(
                account_id=account_id,
                id=user_id,
                display_name=ask.display_name or "",
                email=ask.email or "",
                role=ask.role,
                is_service_account=ask.service_account or False,
                created_at=tx.now,
                updated_at=tx.now,
            )
            if await users.get(tx.connection, account_id, user_id) is not None:
                raise HearthError(Code.CONFLICT, f"{user.name} already exists", "userId")
            await _require_free_email(tx.connection, user)
            await users.insert(tx, user)
            await audit.record(tx, principal, user.name, audit.fields_given(ask))
        return user

    async def get(self, principal: Principal, account_id: str, user_id: str) -> User:
        require_member(principal, account_id)
        async with self._database.reader() as db:
            return await _find(db, account_id, user_id)

    async def list(self, principal: Principal, account_id: str) -> builtins.list[User]:
        require_member(principal, account_id)
        async with self._database.reader() as db:
            return await users.list_in_account(db, account_id)

    async def update(self, principal: Principal, account_id: str, user_id: str, ask: UserAsk) -> User:
        """A role counts at once, also for requests with keys that exist."""
        require_administrator(principal, account_id, "users")
        check(ask)
        async with self._identity.changing() as tx:
            user = await _find(tx.connection, account_id, user_id)
            if ask.service_account not in (None, user.is_service_account):
                message = "serviceAccount: it stays as it was created; create another user instead"
                raise HearthError(Code.INVALID, message, "serviceAccount")
            changed = replace(
                user,
                role=user.role if ask.role is None else ask.role,
                display_name=user.display_name if ask.display_name is None else ask.display_name,
                email=user.email if ask.email is None else ask.email,
                updated_at=tx.now,
            )
            if changed.role is not user.role:
                await _require_changeable_role(tx.connection, principal, user)
            await _require_free_email(tx.connection, changed)
            await users.update(tx, changed)
            await audit.record(tx, principal, user.name, audit.fields_given(ask))
        return changed

    async def delete(self, principal: Principal, account_id: str, user_id: str) -> None:
        """With all keys; what the user made stays."""
        require_administrator(principal, account_id, "users")
        async with self._identity.changing() as tx:
            user = await _find(tx.connection, account_id, user_id)
            await _require_other_administrator(tx.connection, user, "deleted")
            await api_keys.delete_of_user(tx, account_id, user_id)
            await users.delete(tx, account_id, user_id)
            await audit.record(tx, principal, user.name)


def check(ask: UserAsk) -> None:
    check_display_name(ask.display_name or "")
    check_email(ask.email or "")


async def _find(db: Connection, account_id: str, user_id: str) -> User:
    user = await users.get(db, account_id, user_id)
    if user is None:
        raise not_found(f"accounts/{account_id}/users/{user_id}")
    return user


async def _require_changeable_role(db: Connection, principal: Principal, user: User) -> None:
    await _require_other_administrator(db, user, "given a lesser role")
    if (principal.account_id, principal.user_id) == (user.account_id, user.id):
        raise HearthError(Code.FORBIDDEN, "role: nobody changes his own; ask another administrator", "role")


async def _require_other_administrator(db: Connection, user: User, what: str) -> None:
    others = await users.list_with_role(db, user.account_id, Role.ADMIN)
    if user.role is Role.ADMIN and [other.id for other in others] == [user.id]:
        message = f"{user.name} is the last administrator of the account and cannot be {what}; make another one first"
        raise HearthError(Code.FAILED_PRECONDITION, message)


async def _require_free_email(db: Connection, user: User) -> None:
    other = await users.find_by_email(db, user.account_id, user.email)
    if other is not None and other.id != user.id:
        raise HearthError(Code.CONFLICT, f"email: {other.name} has this address", "email")


async def _free_id(db: Connection, account_id: str, email: str) -> str:
    """After the name in the address; with something added to it, if that is taken."""
    name = _NOT_IN_IDS.sub("-", email.rpartition("@")[0].lower()).strip("-")
    if not name[:1].isalpha():
        name = f"user-{name}".strip("-")
    name = name[: ID_LENGTH_MAX - _SUFFIX_LENGTH - 1].strip("-")
    if await users.get(db, account_id, name) is None:
        return name
    return f"{name}-{generate_id(_SUFFIX_LENGTH)}"
