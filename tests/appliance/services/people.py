"""Users of `acme` and `globex` with their keys, for tests of who is who."""

import json

from appliance.domain import Principal, Role
from appliance.errors import Code, HearthError
from appliance.services.api_keys import ApiKeyAsk, ApiKeys
from appliance.services.identity import Identity
from appliance.store.database import Database
from tests.appliance.services.samples import principal, put, user

ROOT = principal("acme", "root", Role.ADMIN)
CONTRIBUTOR = principal("acme", "ada", Role.CONTRIBUTOR)
FOREIGN_ADMIN = principal("globex", "gus", Role.ADMIN)


async def put_people(database: Database) -> None:
    await put(
        database,
        user("acme", "root", Role.ADMIN),
        user("acme", "ada", Role.CONTRIBUTOR),
        user("globex", "gus", Role.ADMIN),
    )


async def make_key(api_keys: ApiKeys, who: Principal, expires_at: float | None = None) -> str:
    return (await api_keys.create(who, who.account_id, who.user_id, ApiKeyAsk(expire_time=expires_at))).key


async def is_accepted(identity: Identity, key: str) -> bool:
    try:
        await identity.authenticate(key)
    except HearthError as error:
        return error.code is not Code.UNAUTHENTICATED
    return True


async def audited(database: Database) -> list[tuple[str, str, list[str]]]:
    """Account, resource and fields of each row of the audit log, oldest first."""
    async with database.reader() as db:
        rows = await db.execute_fetchall("SELECT account_id, resource, fields FROM audit_logs ORDER BY seq")
    return [(row["account_id"], row["resource"], json.loads(row["fields"])) for row in rows]
