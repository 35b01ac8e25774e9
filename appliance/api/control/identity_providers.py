"""Routes of identity providers: who vouches for the people of an account. The secret of a client is in no answer."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import Answer, Empty, NotServed, Status, Wire, decode, parse_enum, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import IdentityProvider, OidcConfig, Role, SamlConfig
from appliance.names import last_segment
from appliance.services.identity_providers import IdentityProviderAsk, OidcAsk, SamlAsk


class SamlConfigBody(Wire, frozen=True, kw_only=True):
    """Exactly one of the two."""

    metadata_url: Annotated[str | None, msgspec.Meta(description="https:// address of the metadata.")] = None
    metadata_xml: Annotated[str | None, msgspec.Meta(description="The metadata itself, at most 256 KiB.")] = None


class OidcConfigBody(Wire, frozen=True, kw_only=True):
    """In a change, what is not given stays."""

    issuer_url: Annotated[str | None, msgspec.Meta(examples=["https://login.example.com"])] = None
    client_id: str | None = None
    client_secret: Annotated[str | None, msgspec.Meta(description="Never returned.")] = None


class IdentityProviderBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    saml_config: SamlConfigBody | None = None
    oidc_config: OidcConfigBody | None = None
    tenant_domains: Annotated[
        list[str] | None,
        msgspec.Meta(description="Whose people it vouches for. Default: the domain of the account's e-mail address."),
    ] = None
    enable_jit_user_provisioning: bool | None = None
    jit_default_role: Annotated[
        str | None, msgspec.Meta(description="Of users who come for the first time. Default: inference-user.")
    ] = None
    enable_idp_initiated_sso: Annotated[bool | None, msgspec.Meta(description="SAML only.")] = None
    enforce_sso: NotServed = None


class SamlConfigAnswer(Answer, frozen=True, kw_only=True):
    metadata_url: str | None = None
    metadata_xml: str | None = None


class OidcConfigAnswer(Answer, frozen=True, kw_only=True):
    issuer_url: str
    client_id: str


class IdentityProviderAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    saml_config: SamlConfigAnswer | None = None
    oidc_config: OidcConfigAnswer | None = None
    tenant_domains: list[str]
    state: str
    status: Status
    issuer_url: str | None = None
    client_id: str | None = None
    enable_jit_user_provisioning: bool
    jit_default_role: str
    enable_idp_initiated_sso: bool
    enforce_sso: Annotated[bool, msgspec.Meta(description="Always false: API keys work as before.")]
    create_time: str | None = None
    update_time: str | None = None


async def create_identity_provider(request: web.Request) -> web.StreamResponse:
    """Register an OpenID Connect or SAML 2.0 identity provider. For administrators.

    What is given is checked and stored, and nothing is fetched from the provider.
    """
    ask = read_ask(await decode(request, IdentityProviderBody))
    provider = await services(request).tenancy.identity_providers.create(
        principal(request), request.match_info["account_id"], ask
    )
    return json_response(render_identity_provider(provider))


async def list_identity_providers(request: web.Request) -> web.StreamResponse:
    """List the identity providers of an account."""
    found = await services(request).tenancy.identity_providers.list(
        principal(request), request.match_info["account_id"]
    )
    return list_response(request, "identityProviders", IdentityProviderAnswer, found, render_identity_provider)


async def get_identity_provider(request: web.Request) -> web.StreamResponse:
    """Get an identity provider."""
    provider = await services(request).tenancy.identity_providers.get(principal(request), *_name(request))
    return masked_response(request, render_identity_provider(provider))


async def update_identity_provider(request: web.Request) -> web.StreamResponse:
    """Change an identity provider; an OIDC client's id, issuer and secret one by one. For administrators."""
    ask = read_ask(masked_update(request, await decode(request, IdentityProviderBody)))
    provider = await services(request).tenancy.identity_providers.update(principal(request), *_name(request), ask)
    return json_response(render_identity_provider(provider))


async def delete_identity_provider(request: web.Request) -> web.StreamResponse:
    """Delete an identity provider. For administrators."""
    await services(request).tenancy.identity_providers.delete(principal(request), *_name(request))
    return json_response(Empty())


def read_ask(body: IdentityProviderBody) -> IdentityProviderAsk:
    return IdentityProviderAsk(
        display_name=body.display_name,
        saml_config=None if body.saml_config is None else _read_saml(body.saml_config),
        oidc_config=None if body.oidc_config is None else _read_oidc(body.oidc_config),
        tenant_domains=body.tenant_domains,
        enable_jit_user_provisioning=body.enable_jit_user_provisioning,
        jit_default_role=parse_enum(Role, body.jit_default_role, "jitDefaultRole"),
        enable_idp_initiated_sso=body.enable_idp_initiated_sso,
    )


def _read_saml(body: SamlConfigBody) -> SamlAsk:
    return SamlAsk(metadata_url=body.metadata_url, metadata_xml=body.metadata_xml)


def _read_oidc(body: OidcConfigBody) -> OidcAsk:
    return OidcAsk(issuer_url=body.issuer_url, client_id=body.client_id, client_secret=body.client_secret)


def render_identity_provider(provider: IdentityProvider) -> IdentityProviderAnswer:
    return IdentityProviderAnswer(
        name=provider.name,
        display_name=provider.display_name,
        saml_config=None if provider.saml is None else _render_saml(provider.saml),
        oidc_config=None if provider.oidc is None else _render_oidc(provider.oidc),
        tenant_domains=provider.tenant_domains,
        state="READY",
        status=Status(),
        issuer_url=_issuer(provider) or None,
        client_id=provider.oidc.client_id if provider.oidc else None,
        enable_jit_user_provisioning=provider.provisions_users,
        jit_default_role=provider.provisioned_role,
        enable_idp_initiated_sso=provider.allows_idp_initiated,
        enforce_sso=False,
        create_time=render_time(provider.created_at),
        update_time=render_time(provider.updated_at),
    )


def _issuer(provider: IdentityProvider) -> str:
    if provider.oidc is not None:
        return provider.oidc.issuer_url
    return "" if provider.saml is None else provider.saml.issuer


def _render_saml(config: SamlConfig) -> SamlConfigAnswer:
    return SamlConfigAnswer(metadata_url=config.metadata_url or None, metadata_xml=config.metadata_xml or None)


def _render_oidc(config: OidcConfig) -> OidcConfigAnswer:
    return OidcConfigAnswer(issuer_url=config.issuer_url, client_id=config.client_id)


def _name(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id, segment = request.match_info["account_id"], request.match_info["identity_provider_id"]
    return account_id, last_segment(segment, account_id, "identityProviders", "identity_provider_id")


COLLECTION = "/v1/accounts/{account_id}/identityProviders"
IDENTITY_PROVIDER = "/v1/accounts/{account_id}/identityProviders/{identity_provider_id}"

ROUTES = [
    Route(
        "POST",
        COLLECTION,
        create_identity_provider,
        Permission.ADMIN,
        body=IdentityProviderBody,
        answer=IdentityProviderAnswer,
    ),
    Route(
        "GET",
        COLLECTION,
        list_identity_providers,
        Permission.READ,
        answer=IdentityProviderAnswer,
        plural="identityProviders",
    ),
    Route("GET", IDENTITY_PROVIDER, get_identity_provider, Permission.READ, answer=IdentityProviderAnswer),
    Route(
        "PATCH",
        IDENTITY_PROVIDER,
        update_identity_provider,
        Permission.ADMIN,
        body=IdentityProviderBody,
        answer=IdentityProviderAnswer,
    ),
    Route("DELETE", IDENTITY_PROVIDER, delete_identity_provider, Permission.ADMIN, answer=Empty),
]
