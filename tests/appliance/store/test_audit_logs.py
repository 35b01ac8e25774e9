import sqlite3

import msgspec
import pytest

from appliance.domain import AuditEntry
from appliance.store import audit_logs
from appliance.store.audit_logs import BEGINNING, link_hash
from appliance.store.database import Database

KEY = bytes(32)


def entry(resource: str) -> AuditEntry:
    return AuditEntry(
        account_id="acme",
        at=1.5,
        user_account_id="acme",
        user_id="alice",
        key_id="k",
        method="CreateModel",
        resource=resource,
        fields=["kind"],
    )


async def test_every_row_is_linked_to_the_one_before(database: Database) -> None:
    async with database.transaction() as tx:
        first = await audit_logs.append(tx, entry("accounts/acme/models/a"))
        second = await audit_logs.append(tx, entry("accounts/acme/models/b"))
    assert (first.seq, second.seq) == (1, 2)
    assert first.hash == link_hash(KEY, BEGINNING, entry("accounts/acme/models/a"))
    assert second.hash == link_hash(KEY, first, entry("accounts/acme/models/b"))
    async with database.reader() as db:
        assert await audit_logs.head(db) == second


def test_no_part_of_a_row_is_outside_its_hash() -> None:
    told = entry("accounts/acme/models/a")
    plain = link_hash(KEY, BEGINNING, told)
    for field in msgspec.structs.fields(AuditEntry):
        changed = {str: "other", float: 9.0, int: 7}.get(field.type, ["other"])
        assert link_hash(KEY, BEGINNING, msgspec.structs.replace(told, **{field.name: changed})) != plain, field.name
    assert link_hash(b"another key", BEGINNING, told) != plain
    assert link_hash(KEY, audit_logs.Link(1, bytes(32)), told) != plain


@pytest.mark.parametrize("statement", ["UPDATE audit_logs SET user_id = 'bob'", "DELETE FROM audit_logs"])
async def test_rows_neither_change_nor_go(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await audit_logs.append(tx, entry("accounts/acme/models/a"))
    with pytest.raises(sqlite3.IntegrityError, match="the audit log never"):
        async with database.transaction() as tx:
            await tx.connection.execute(statement)
