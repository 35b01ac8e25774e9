"""Identity providers as a client sees them. The secret of an OIDC client goes in and never comes back."""

from collections.abc import Iterator

from appliance.sdk.resources import (
    Empty,
    Resource,
    Status,
    Transport,
    collection_path,
    given,
    pages,
    resource_path,
    selection,
)

COLLECTION = "identityProviders"


class SamlConfig(Resource, frozen=True, kw_only=True):
    metadata_url: str = ""
    metadata_xml: str = ""


class OidcConfig(Resource, frozen=True, kw_only=True):
    issuer_url: str = ""
    client_id: str = ""


class IdentityProvider(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    saml_config: SamlConfig | None = None
    oidc_config: OidcConfig | None = None
    tenant_domains: list[str] = []
    state: str = ""
    status: Status = Status()
    issuer_url: str = ""
    client_id: str = ""
    enable_jit_user_provisioning: bool = False
    jit_default_role: str = ""
    enable_idp_initiated_sso: bool = False
    enforce_sso: bool = False
    create_time: str | None = None
    update_time: str | None = None


class IdentityProviderPage(Resource, frozen=True, kw_only=True):
    identity_providers: list[IdentityProvider]
    next_page_token: str = ""


class IdentityProviders:
    """`fields` are those of `IdentityProvider`, in this language's spelling; configurations as on the wire."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, **fields: object) -> IdentityProvider:
        path = collection_path(self._transport, COLLECTION)
        return self._transport.call("POST", path, IdentityProvider, body=given(fields))

    def get(self, provider: str) -> IdentityProvider:
        return self._transport.call("GET", self._path(provider), IdentityProvider)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[IdentityProvider]:
        path = collection_path(self._transport, COLLECTION)
        for page in pages(self._transport, path, IdentityProviderPage, selection(filter, order_by)):
            yield from page.identity_providers

    def update(self, provider: str, **fields: object) -> IdentityProvider:
        """What is not given stays as it is."""
        return self._transport.call("PATCH", self._path(provider), IdentityProvider, body=given(fields))

    def delete(self, provider: str) -> None:
        self._transport.call("DELETE", self._path(provider), Empty)

    def _path(self, provider: str) -> str:
        return resource_path(self._transport, COLLECTION, provider)
