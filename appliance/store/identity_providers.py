"""The identity_providers table: a column for each field of the struct, of the same name."""

import aiosqlite
import msgspec

from appliance.domain import IdentityProvider
from appliance.store.database import Transaction

_KEY = ("account_id", "id")
_COLUMNS = tuple(field for field in IdentityProvider.__struct_fields__ if field not in _KEY)
_JSON = ("saml", "oidc", "tenant_domains")
_ALL = ", ".join((*_KEY, *_COLUMNS))

INSERT = f"INSERT INTO identity_providers ({_ALL}) VALUES ({', '.join('?' * (len(_KEY) + len(_COLUMNS)))})"
GET = f"SELECT {_ALL} FROM identity_providers WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"SELECT {_ALL} FROM identity_providers WHERE account_id = ? ORDER BY id"
FIND_OTHERS_OF_DOMAIN = """
SELECT 1 FROM identity_providers, json_each(tenant_domains) AS domains
WHERE domains.value = ? AND NOT (account_id = ? AND identity_providers.id = ?) LIMIT 1
"""
UPDATE = f"""
UPDATE identity_providers SET {", ".join(f"{column} = ?" for column in _COLUMNS)} WHERE account_id = ? AND id = ?
"""
DELETE = "DELETE FROM identity_providers WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, provider: IdentityProvider) -> None:
    await tx.connection.execute(INSERT, (provider.account_id, provider.id, *_values(provider)))


async def get(db: aiosqlite.Connection, account_id: str, provider_id: str) -> IdentityProvider | None:
    for row in await db.execute_fetchall(GET, (account_id, provider_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[IdentityProvider]:
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def others_have_domain(db: aiosqlite.Connection, provider: IdentityProvider, domain: str) -> bool:
    """Whether another provider, of any account, vouches for the people of a domain."""
    return bool(await db.execute_fetchall(FIND_OTHERS_OF_DOMAIN, (domain, provider.account_id, provider.id)))


async def update(tx: Transaction, provider: IdentityProvider) -> None:
    """The whole row."""
    await tx.connection.execute(UPDATE, (*_values(provider), provider.account_id, provider.id))


async def delete(tx: Transaction, account_id: str, provider_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, provider_id))


def _values(provider: IdentityProvider) -> list[object]:
    """All columns but the key, in the order of INSERT and UPDATE."""
    return [_column(name, getattr(provider, name)) for name in _COLUMNS]


def _column(name: str, value: object) -> object:
    return msgspec.json.encode(value).decode() if name in _JSON and value is not None else value


def _read(row: aiosqlite.Row) -> IdentityProvider:
    decoded = {name: msgspec.json.decode(row[name]) for name in _JSON if row[name] is not None}
    return msgspec.convert({**dict(row), **decoded}, IdentityProvider, strict=False)
