"""`hearth … identity-provider`: who vouches for the people of an account."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_line, print_record, print_table, readable_time
from appliance.cli.users import RoleName
from appliance.sdk.identity_providers import IdentityProvider

ProviderName = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="Id, or full name: accounts/ACCOUNT/identityProviders/ID.")
]
DisplayName = Annotated[str | None, typer.Option(metavar="NAME", help="Human-readable, fewer than 64 characters.")]
MetadataUrl = Annotated[str | None, typer.Option(metavar="URL", help="Where a SAML provider keeps its metadata.")]
MetadataFile = Annotated[
    Path | None,
    typer.Option("--saml-metadata-xml-file", metavar="FILE", exists=True, dir_okay=False, help="The metadata itself."),
]
Issuer = Annotated[str | None, typer.Option(metavar="URL", help="Of an OpenID Connect provider.")]
ClientId = Annotated[str | None, typer.Option(metavar="ID", help="What that provider knows this box by.")]
ClientSecret = Annotated[str | None, typer.Option(metavar="TEXT", help="Never shown again.")]
TenantDomains = Annotated[
    str | None, typer.Option(metavar="DOMAINS", help="example.com,example.org. Default: of the account's e-mail.")
]
Provisioning = Annotated[
    bool | None,
    typer.Option(
        "--enable-jit-user-provisioning/--no-jit-user-provisioning", help="Who comes for the first time becomes a user."
    ),
]
DefaultRole = Annotated[RoleName | None, typer.Option(help="Of such users. Default: inference-user.")]
IdpInitiated = Annotated[
    bool | None,
    typer.Option("--enable-idp-initiated-sso/--no-idp-initiated-sso", help="A SAML provider may begin a login."),
]


def create(
    session: Session,
    display_name: DisplayName = None,
    saml_metadata_url: MetadataUrl = None,
    saml_metadata_xml_file: MetadataFile = None,
    oidc_issuer: Issuer = None,
    oidc_client_id: ClientId = None,
    oidc_client_secret: ClientSecret = None,
    tenant_domains: TenantDomains = None,
    enable_jit_user_provisioning: Provisioning = None,
    jit_default_role: DefaultRole = None,
    enable_idp_initiated_sso: IdpInitiated = None,
) -> None:
    """Register an OpenID Connect or SAML 2.0 provider. Nothing is fetched from it yet."""
    provider = session.client.identity_providers.create(
        display_name=display_name,
        saml_config=_saml(saml_metadata_url, saml_metadata_xml_file),
        oidc_config=_oidc(oidc_issuer, oidc_client_id, oidc_client_secret),
        tenant_domains=_domains(tenant_domains),
        enable_jit_user_provisioning=enable_jit_user_provisioning,
        jit_default_role=jit_default_role,
        enable_idp_initiated_sso=enable_idp_initiated_sso,
    )
    _show(session, provider)


def get(session: Session, provider: ProviderName) -> None:
    """Show an identity provider, without its client's secret."""
    _show(session, session.client.identity_providers.get(provider))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the account's identity providers."""
    providers = list(session.client.identity_providers.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(providers)
    rows = [
        [
            provider.name.rpartition("/")[2],
            provider.display_name,
            "OIDC" if provider.oidc_config else "SAML",
            ", ".join(provider.tenant_domains),
            provider.state,
        ]
        for provider in providers
    ]
    return print_table(["ID", "DISPLAY NAME", "KIND", "DOMAINS", "STATE"], rows)


def update(
    session: Session,
    provider: ProviderName,
    display_name: DisplayName = None,
    saml_metadata_url: MetadataUrl = None,
    saml_metadata_xml_file: MetadataFile = None,
    oidc_issuer: Issuer = None,
    oidc_client_id: ClientId = None,
    oidc_client_secret: ClientSecret = None,
    tenant_domains: TenantDomains = None,
    enable_jit_user_provisioning: Provisioning = None,
    jit_default_role: DefaultRole = None,
    enable_idp_initiated_sso: IdpInitiated = None,
) -> None:
    """Change an identity provider; what is not given stays."""
    changed = session.client.identity_providers.update(
        provider,
        display_name=display_name,
        saml_config=_saml(saml_metadata_url, saml_metadata_xml_file),
        oidc_config=_oidc(oidc_issuer, oidc_client_id, oidc_client_secret),
        tenant_domains=_domains(tenant_domains),
        enable_jit_user_provisioning=enable_jit_user_provisioning,
        jit_default_role=jit_default_role,
        enable_idp_initiated_sso=enable_idp_initiated_sso,
    )
    _show(session, changed)


def delete(session: Session, provider: ProviderName) -> None:
    """Delete an identity provider."""
    session.client.identity_providers.delete(provider)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {provider}")


def _saml(metadata_url: str | None, metadata_file: Path | None) -> dict[str, str] | None:
    given = {"metadataUrl": metadata_url, "metadataXml": None if metadata_file is None else metadata_file.read_text()}
    return {name: value for name, value in given.items() if value is not None} or None


def _oidc(issuer: str | None, client_id: str | None, client_secret: str | None) -> dict[str, str] | None:
    given = {"issuerUrl": issuer, "clientId": client_id, "clientSecret": client_secret}
    return {name: value for name, value in given.items() if value is not None} or None


def _domains(text: str | None) -> list[str] | None:
    return None if text is None else [domain.strip() for domain in text.split(",") if domain.strip()]


def _show(session: Session, provider: IdentityProvider) -> None:
    if session.is_json:
        return print_json(provider)
    return print_record(
        [
            ("Name", provider.name),
            ("Display name", provider.display_name),
            ("Kind", "OIDC" if provider.oidc_config else "SAML"),
            ("Issuer", provider.issuer_url),
            ("Client id", provider.client_id),
            ("Metadata URL", provider.saml_config.metadata_url if provider.saml_config else ""),
            ("Domains", ", ".join(provider.tenant_domains)),
            ("New users", provider.jit_default_role if provider.enable_jit_user_provisioning else "none"),
            ("State", provider.state),
            ("Created", readable_time(provider.create_time)),
            ("Updated", readable_time(provider.update_time)),
        ]
    )


COMMANDS = [
    Command(
        "create",
        "identity-provider",
        create,
        (
            "hearth create identity-provider --display-name Okta --oidc-issuer https://acme.okta.com "
            "--oidc-client-id hearth --oidc-client-secret SECRET",
            "hearth create identity-provider --saml-metadata-xml-file metadata.xml --tenant-domains acme.example",
        ),
    ),
    Command("get", "identity-provider", get, ("hearth get identity-provider ID",)),
    Command("list", "identity-provider", list_all, ("hearth list identity-providers",)),
    Command(
        "update",
        "identity-provider",
        update,
        ("hearth update identity-provider ID --oidc-client-secret NEW_SECRET",),
    ),
    Command("delete", "identity-provider", delete, ("hearth delete identity-provider ID",)),
]
