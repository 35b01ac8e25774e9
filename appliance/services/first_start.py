"""What has to be there before anybody can ask: the accounts of the box, an administrator and his first key."""

import asyncio
import logging
from pathlib import Path

from appliance.config import IdentitySettings
from appliance.domain import Account, Role, User
from appliance.services import audit
from appliance.services.api_keys import ApiKeyAsk, add
from appliance.store import accounts, api_keys, users
from appliance.store.database import Database, Transaction
from appliance.store.durable_files import write_private

logger = logging.getLogger(__name__)

ADMIN_KEY_FILE = "admin-api-key"
ADMIN_USER_ID = "admin"


async def ensure_first_start(database: Database, settings: IdentitySettings, data_dir: Path) -> None:
    """Make each if it is missing.

    A key is made only while no administrator's key is left at all: an operator who moved the file away will not find
    a new key in its place, and one who deleted every key gets in again.
    """
    async with database.transaction() as tx:
        await _ensure_account(tx, settings.account_id)
        await _ensure_account(tx, settings.library_account_id)
        user = await _ensure_administrator(tx, settings.account_id)
        if await api_keys.exists_with_role(tx.connection, settings.account_id, Role.ADMIN, tx.now):
            return
        created = await add(tx, user, ApiKeyAsk(display_name="first key"))
        message = "no administrator had a key"
        await audit.record_own_act(tx, "CreateApiKey", created.api_key.name, message)
        # The file first: a key without its row is replaced at the next start, a row without its key locks out.
        path = data_dir / ADMIN_KEY_FILE
        await asyncio.to_thread(write_private, path, f"{created.key}\n".encode())
    logger.info("wrote the administrator's key to %s", path)


async def _ensure_account(tx: Transaction, account_id: str) -> None:
    if await accounts.get(tx.connection, account_id) is None:
        await accounts.insert(tx, Account(id=account_id, display_name=account_id, created_at=tx.now, updated_at=tx.now))


async def _ensure_administrator(tx: Transaction, account_id: str) -> User:
    """Who was made here, while he is one, else the first of the others; the last one cannot be deleted."""
    found = await users.list_with_role(tx.connection, account_id, Role.ADMIN)
    for user in sorted(found, key=lambda user: user.id != ADMIN_USER_ID):
        return user
    user = administrator(account_id, "", tx.now)
    await users.insert(tx, user)
    return user


def administrator(account_id: str, email: str, now: float) -> User:
    """The first user of an account."""
    return User(
        account_id=account_id,
        id=ADMIN_USER_ID,
        display_name="Administrator",
        email=email,
        role=Role.ADMIN,
        created_at=now,
        updated_at=now,
    )
