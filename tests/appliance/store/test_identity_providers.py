import sqlite3

import pytest
from msgspec.structs import replace

from appliance.domain import SamlConfig
from appliance.store import identity_providers
from appliance.store.database import Database
from tests.appliance.store.samples import OIDC_PROVIDER, insert_account

SAML = SamlConfig(metadata_url="", metadata_xml="<xml/>", issuer="urn:acme")


async def test_a_provider_of_either_kind_is_found_as_it_was_inserted(database: Database) -> None:
    await insert_account(database)
    saml = replace(OIDC_PROVIDER, id="saml", oidc=None, saml=SAML, tenant_domains=[])
    async with database.transaction() as tx:
        await identity_providers.insert(tx, OIDC_PROVIDER)
        await identity_providers.insert(tx, saml)
        assert await identity_providers.get(tx.connection, "acme", "login") == OIDC_PROVIDER
        assert await identity_providers.get(tx.connection, "other", "login") is None
        assert await identity_providers.list_in_account(tx.connection, "acme") == [OIDC_PROVIDER, saml]
        changed = replace(OIDC_PROVIDER, display_name="New", tenant_domains=["x.test"], updated_at=9.0)
        await identity_providers.update(tx, changed)
        assert await identity_providers.get(tx.connection, "acme", "login") == changed
        await identity_providers.delete(tx, "acme", "login")
        assert await identity_providers.list_in_account(tx.connection, "acme") == [saml]


async def test_a_provider_is_of_exactly_one_kind(database: Database) -> None:
    await insert_account(database)
    for wrong in (replace(OIDC_PROVIDER, saml=SAML), replace(OIDC_PROVIDER, oidc=None)):
        with pytest.raises(sqlite3.IntegrityError):
            async with database.transaction() as tx:
                await identity_providers.insert(tx, wrong)


async def test_a_domain_is_found_at_whichever_other_provider_it_is(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await identity_providers.insert(tx, OIDC_PROVIDER)
        for asked, domain, is_there in (
            (OIDC_PROVIDER, "acme.example", False),
            (replace(OIDC_PROVIDER, id="second"), "acme.example", True),
            (replace(OIDC_PROVIDER, account_id="other"), "acme.test", True),
            (replace(OIDC_PROVIDER, account_id="other"), "test", False),
        ):
            assert await identity_providers.others_have_domain(tx.connection, asked, domain) is is_there
