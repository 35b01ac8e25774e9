import os
from collections.abc import Awaitable
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.domain import Role
from appliance.errors import Code, HearthError
from appliance.services.identity_providers import (
    PURPOSE,
    IdentityProviderAsk,
    IdentityProviders,
    OidcAsk,
    SamlAsk,
)
from appliance.services.keyring import Keyring
from appliance.store import accounts
from appliance.store.database import Database
from tests.appliance.services.people import CONTRIBUTOR, FOREIGN_ADMIN, ROOT, audited, put_people
from tests.appliance.services.samples import account
from tests.fakes.fake_clock import FakeClock
from tests.fakes.saml_provider import METADATA

CLIENT_SECRET = "client-canary-77b1"
KEYRING = Keyring(b"m" * 32)
CLIENT = OidcAsk(issuer_url="https://login.acme.test", client_id="box", client_secret=CLIENT_SECRET)
OIDC = IdentityProviderAsk(display_name="Login", oidc_config=CLIENT, tenant_domains=["Acme.test", "acme.test"])
SAML = IdentityProviderAsk(saml_config=SamlAsk(metadata_xml=METADATA), tenant_domains=["acme.test"])


@pytest.fixture
async def providers(database: Database) -> IdentityProviders:
    await put_people(database)
    return IdentityProviders(database, KEYRING)


async def refusal(attempt: Awaitable[object]) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt
    return caught.value


async def test_a_clients_secret_is_sealed_to_the_provider_and_in_no_file(
    providers: IdentityProviders, tmp_path: Path
) -> None:
    provider = await providers.create(ROOT, "acme", OIDC)
    assert provider.oidc is not None
    assert (provider.oidc.issuer_url, provider.oidc.client_id) == ("https://login.acme.test", "box")
    assert KEYRING.unseal(PURPOSE, provider.oidc.sealed_client_secret, provider.name) == CLIENT_SECRET.encode()
    stored = b"".join((tmp_path / name).read_bytes() for name in os.listdir(tmp_path))
    assert CLIENT_SECRET.encode() not in stored
    assert CLIENT_SECRET not in repr(OIDC)
    assert provider.tenant_domains == ["acme.test"]
    assert (provider.provisions_users, provider.provisioned_role) == (False, Role.INFERENCE_USER)
    assert await providers.get(CONTRIBUTOR, "acme", provider.id) == provider
    assert await providers.list(CONTRIBUTOR, "acme") == [provider]


async def test_a_saml_provider_is_named_by_its_metadata(providers: IdentityProviders) -> None:
    provider = await providers.create(ROOT, "acme", replace(SAML, enable_idp_initiated_sso=True))
    assert provider.saml is not None
    assert (provider.saml.issuer, provider.saml.metadata_xml) == ("http://www.okta.com/exk1", METADATA)
    url = SamlAsk(metadata_url="https://okta.test/metadata")
    changed = await providers.update(ROOT, "acme", provider.id, IdentityProviderAsk(saml_config=url))
    assert changed.saml is not None
    assert (changed.saml.metadata_url, changed.saml.metadata_xml) == ("https://okta.test/metadata", "")


async def test_without_domains_it_is_the_one_of_the_accounts_address(
    providers: IdentityProviders, database: Database
) -> None:
    error = await refusal(providers.create(ROOT, "acme", replace(OIDC, tenant_domains=None)))
    assert (error.code, error.param) == (Code.INVALID, "tenantDomains")
    async with database.transaction() as tx:
        await accounts.update(tx, replace(account("acme"), email="it@Acme.example"))
    provider = await providers.create(ROOT, "acme", replace(OIDC, tenant_domains=None))
    assert provider.tenant_domains == ["acme.example"]


async def test_no_two_providers_vouch_for_one_domain(providers: IdentityProviders) -> None:
    provider = await providers.create(ROOT, "acme", OIDC)
    for who in (ROOT, FOREIGN_ADMIN):
        error = await refusal(providers.create(who, who.account_id, SAML))
        assert (error.code, error.param) == (Code.CONFLICT, "tenantDomains")
        assert "acme" not in error.message.replace("acme.test", "")
    await providers.update(ROOT, "acme", provider.id, OIDC)
    await providers.delete(ROOT, "acme", provider.id)
    await providers.create(FOREIGN_ADMIN, "globex", SAML)


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (IdentityProviderAsk(tenant_domains=["acme.test"]), "oidcConfig"),
        (replace(OIDC, saml_config=SAML.saml_config), "oidcConfig"),
        (replace(OIDC, oidc_config=replace(CLIENT, client_secret=None)), "oidcConfig.clientSecret"),
        (replace(OIDC, oidc_config=replace(CLIENT, client_secret="")), "oidcConfig.clientSecret"),
        (replace(OIDC, oidc_config=replace(CLIENT, client_id=None)), "oidcConfig.clientId"),
        (replace(OIDC, oidc_config=replace(CLIENT, issuer_url=None)), "oidcConfig.issuerUrl"),
        (replace(OIDC, oidc_config=replace(CLIENT, issuer_url="http://login.acme.test")), "oidcConfig.issuerUrl"),
        (replace(OIDC, oidc_config=replace(CLIENT, issuer_url="https://u:p@acme.test")), "oidcConfig.issuerUrl"),
        (replace(OIDC, oidc_config=replace(CLIENT, issuer_url="https://[x")), "oidcConfig.issuerUrl"),
        (replace(OIDC, oidc_config=replace(CLIENT, issuer_url="https://a.test/ x")), "oidcConfig.issuerUrl"),
        (replace(OIDC, tenant_domains=[]), "tenantDomains"),
        (replace(OIDC, tenant_domains=["*.test"]), "tenantDomains"),
        (replace(OIDC, tenant_domains=[f"d{number}.test" for number in range(101)]), "tenantDomains"),
        (replace(OIDC, display_name="x" * 64), "displayName"),
        (replace(OIDC, enable_idp_initiated_sso=True), "enableIdpInitiatedSso"),
        (replace(SAML, saml_config=SamlAsk()), "samlConfig"),
        (replace(SAML, saml_config=SamlAsk(metadata_url="https://x.test", metadata_xml=METADATA)), "samlConfig"),
        (replace(SAML, saml_config=SamlAsk(metadata_url="file:///etc/passwd")), "samlConfig.metadataUrl"),
        (replace(SAML, saml_config=SamlAsk(metadata_xml="<x/>")), "samlConfig.metadataXml"),
    ],
)
async def test_what_a_provider_cannot_be_is_refused_by_name(
    providers: IdentityProviders, ask: IdentityProviderAsk, param: str
) -> None:
    error = await refusal(providers.create(ROOT, "acme", ask))
    assert (error.code, error.param) == (Code.INVALID, param)
    assert await providers.list(ROOT, "acme") == []


async def test_of_a_client_what_is_not_given_stays(providers: IdentityProviders, clock: FakeClock) -> None:
    provider = await providers.create(ROOT, "acme", OIDC)
    assert provider.oidc is not None
    clock.advance(1.0)
    ask = IdentityProviderAsk(
        oidc_config=OidcAsk(client_secret="new"),
        enable_jit_user_provisioning=True,
        jit_default_role=Role.CONTRIBUTOR,
    )
    changed = await providers.update(ROOT, "acme", provider.id, ask)
    assert changed.oidc is not None
    assert (changed.oidc.issuer_url, changed.oidc.client_id) == (provider.oidc.issuer_url, "box")
    assert KEYRING.unseal(PURPOSE, changed.oidc.sealed_client_secret, changed.name) == b"new"
    assert (changed.provisions_users, changed.provisioned_role) == (True, Role.CONTRIBUTOR)
    assert (changed.display_name, changed.updated_at) == ("Login", clock())
    error = await refusal(providers.update(ROOT, "acme", provider.id, SAML))
    assert (error.code, error.param) == (Code.INVALID, "samlConfig")


async def test_only_administrators_change_providers_and_other_accounts_see_none(providers: IdentityProviders) -> None:
    provider = await providers.create(ROOT, "acme", OIDC)
    for who, code in ((CONTRIBUTOR, Code.FORBIDDEN), (FOREIGN_ADMIN, Code.NOT_FOUND)):
        for attempt in (
            providers.create(who, "acme", SAML),
            providers.update(who, "acme", provider.id, OIDC),
            providers.delete(who, "acme", provider.id),
        ):
            assert (await refusal(attempt)).code is code
    reads: list[Awaitable[object]] = [
        providers.get(FOREIGN_ADMIN, "acme", provider.id),
        providers.list(FOREIGN_ADMIN, "acme"),
        providers.get(ROOT, "acme", "none"),
    ]
    for read in reads:
        assert (await refusal(read)).code is Code.NOT_FOUND


async def test_the_audit_log_names_the_fields_alone(providers: IdentityProviders, database: Database) -> None:
    provider = await providers.create(ROOT, "acme", OIDC)
    await providers.delete(ROOT, "acme", provider.id)
    assert await audited(database) == [
        ("acme", provider.name, ["displayName", "oidcConfig", "tenantDomains"]),
        ("acme", provider.name, []),
    ]
