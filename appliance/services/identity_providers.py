"""Identity providers: who vouches for the people of an account. Stored and validated; nothing is fetched from them.

A client's secret is sealed like other secrets and never comes out of the API again.
"""

import builtins
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from appliance.domain import IdentityProvider, OidcConfig, Principal, Role, SamlConfig
from appliance.errors import Code, HearthError
from appliance.names import ResourceName, generate_id
from appliance.services import audit
from appliance.services.access import not_found, require_administrator, require_member
from appliance.services.contact_details import check_display_name, check_domain, domain_of
from appliance.services.keyring import Keyring
from appliance.services.saml_metadata import read_saml_metadata
from appliance.store import accounts, identity_providers
from appliance.store.database import Connection, Database

PURPOSE = "identity-providers/v1"
URL_LENGTH_MAX = 2048
CLIENT_TEXT_LENGTH_MAX = 1024
TENANT_DOMAINS_MAX = 100


class SamlAsk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    metadata_url: str | None = None
    metadata_xml: str | None = None


class OidcAsk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """None, in a change: as it is."""

    issuer_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    def __repr__(self) -> str:
        return "OidcAsk(…)"


class IdentityProviderAsk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """None: not said, or as it is."""

    display_name: str | None = None
    saml_config: SamlAsk | None = None
    oidc_config: OidcAsk | None = None
    tenant_domains: Sequence[str] | None = None
    enable_jit_user_provisioning: bool | None = None
    jit_default_role: Role | None = None
    enable_idp_initiated_sso: bool | None = None


class IdentityProviders:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def create(self, principal: Principal, account_id: str, ask: IdentityProviderAsk) -> IdentityProvider:
        """Without domains it vouches for that of the account's e-mail address."""
        require_administrator(principal, account_id, "identity providers")
        if (ask.saml_config is None) == (ask.oidc_config is None):
            raise HearthError(Code.INVALID, "oidcConfig: give exactly one of samlConfig and oidcConfig", "oidcConfig")
        async with self._database.transaction() as tx:
            blank = IdentityProvider(
                account_id=account_id,
                id=generate_id(),
                display_name="",
                tenant_domains=await _own_domains(tx.connection, account_id),
                created_at=tx.now,
                updated_at=tx.now,
            )
            provider = self._changed(blank, ask)
            await _check_domains(tx.connection, provider)
            await identity_providers.insert(tx, provider)
            await audit.record(tx, principal, provider.name, audit.fields_given(ask))
        return provider

    async def get(self, principal: Principal, account_id: str, provider_id: str) -> IdentityProvider:
        require_member(principal, account_id)
        async with self._database.reader() as db:
            return await _find(db, account_id, provider_id)

    async def list(self, principal: Principal, account_id: str) -> builtins.list[IdentityProvider]:
        require_member(principal, account_id)
        async with self._database.reader() as db:
            return await identity_providers.list_in_account(db, account_id)

    async def update(
        self, principal: Principal, account_id: str, provider_id: str, ask: IdentityProviderAsk
    ) -> IdentityProvider:
        """The kind of a provider stays; of an OIDC client, what is not given stays too."""
        require_administrator(principal, account_id, "identity providers")
        async with self._database.transaction() as tx:
            provider = await _find(tx.connection, account_id, provider_id)
            for param, current, other in (
                ("samlConfig", provider.saml, ask.saml_config),
                ("oidcConfig", provider.oidc, ask.oidc_config),
            ):
                if current is None and other is not None:
                    message = f"{param}: {provider.name} is of the other kind; create another one instead"
                    raise HearthError(Code.INVALID, message, param)
            changed = replace(self._changed(provider, ask), updated_at=tx.now)
            await _check_domains(tx.connection, changed)
            await identity_providers.update(tx, changed)
            await audit.record(tx, principal, provider.name, audit.fields_given(ask))
        return changed

    async def delete(self, principal: Principal, account_id: str, provider_id: str) -> None:
        require_administrator(principal, account_id, "identity providers")
        async with self._database.transaction() as tx:
            provider = await _find(tx.connection, account_id, provider_id)
            await identity_providers.delete(tx, account_id, provider_id)
            await audit.record(tx, principal, provider.name)

    # ---- rules

    def _changed(self, provider: IdentityProvider, ask: IdentityProviderAsk) -> IdentityProvider:
        if ask.display_name is not None:
            provider = replace(provider, display_name=check_display_name(ask.display_name))
        if ask.saml_config is not None:
            provider = replace(provider, saml=read_saml(ask.saml_config))
        if ask.oidc_config is not None:
            provider = replace(provider, oidc=self._read_oidc(provider, ask.oidc_config))
        if ask.tenant_domains is not None:
            domains = [check_domain(domain, "tenantDomains") for domain in ask.tenant_domains]
            provider = replace(provider, tenant_domains=list(dict.fromkeys(domains)))
        if ask.enable_jit_user_provisioning is not None:
            provider = replace(provider, provisions_users=ask.enable_jit_user_provisioning)
        if ask.jit_default_role is not None:
            provider = replace(provider, provisioned_role=ask.jit_default_role)
        if ask.enable_idp_initiated_sso is not None:
            provider = replace(provider, allows_idp_initiated=ask.enable_idp_initiated_sso)
        if provider.allows_idp_initiated and provider.saml is None:
            message = "enableIdpInitiatedSso: only a SAML provider can begin a login itself"
            raise HearthError(Code.INVALID, message, "enableIdpInitiatedSso")
        return provider

    def _read_oidc(self, provider: IdentityProvider, ask: OidcAsk) -> OidcConfig:
        sealed = provider.oidc.sealed_client_secret if provider.oidc else b""
        if ask.client_secret is not None:
            secret = _text(ask.client_secret, "oidcConfig.clientSecret")
            sealed = self._keyring.seal(PURPOSE, secret.encode(), provider.name)
        issuer_url = ask.issuer_url or (provider.oidc.issuer_url if provider.oidc else "")
        client_id = ask.client_id or (provider.oidc.client_id if provider.oidc else "")
        if not sealed:
            raise HearthError(Code.INVALID, "oidcConfig.clientSecret: is missing", "oidcConfig.clientSecret")
        return OidcConfig(
            issuer_url=_https_url(issuer_url, "oidcConfig.issuerUrl"),
            client_id=_text(client_id, "oidcConfig.clientId"),
            sealed_client_secret=sealed,
        )


def read_saml(ask: SamlAsk) -> SamlConfig:
    if bool(ask.metadata_url) == bool(ask.metadata_xml):
        message = "samlConfig: give exactly one of metadataUrl and metadataXml"
        raise HearthError(Code.INVALID, message, "samlConfig")
    if ask.metadata_url:
        return SamlConfig(metadata_url=_https_url(ask.metadata_url, "samlConfig.metadataUrl"))
    document = ask.metadata_xml or ""
    metadata = read_saml_metadata(document, "samlConfig.metadataXml")
    return SamlConfig(metadata_xml=document, issuer=metadata.entity_id)


async def _own_domains(db: Connection, account_id: str) -> list[str]:
    account = await accounts.get(db, account_id)
    domain = domain_of(account.email) if account is not None else ""
    return [domain] if domain else []


async def _check_domains(db: Connection, provider: IdentityProvider) -> None:
    """No two providers vouch for the people of one domain: who could claim another's would let himself in there."""
    if not 0 < len(provider.tenant_domains) <= TENANT_DOMAINS_MAX:
        message = (
            f"tenantDomains: 1 to {TENANT_DOMAINS_MAX} domains, or an e-mail address of the account to take it from"
        )
        raise HearthError(Code.INVALID, message, "tenantDomains")
    for domain in provider.tenant_domains:
        if await identity_providers.others_have_domain(db, provider, domain):
            raise HearthError(Code.CONFLICT, f"tenantDomains: {domain} belongs to another provider", "tenantDomains")


async def _find(db: Connection, account_id: str, provider_id: str) -> IdentityProvider:
    provider = await identity_providers.get(db, account_id, provider_id)
    if provider is None:
        raise not_found(str(ResourceName(account_id, "identityProviders", provider_id)))
    return provider


def _https_url(text: str, param: str) -> str:
    try:
        parts = urlsplit(text)
        is_right = parts.scheme == "https" and parts.hostname and not parts.username and not parts.fragment
    except ValueError:
        is_right = False
    if not is_right or len(text) > URL_LENGTH_MAX or any(char.isspace() or not char.isprintable() for char in text):
        raise HearthError(Code.INVALID, f"{param}: give an https:// address", param)
    return text


def _text(text: str, param: str) -> str:
    if not 0 < len(text) <= CLIENT_TEXT_LENGTH_MAX:
        raise HearthError(Code.INVALID, f"{param}: 1 to {CLIENT_TEXT_LENGTH_MAX} characters", param)
    return text
