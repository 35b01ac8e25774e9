"""Who there is: accounts, users, keys, secrets, and who asks."""

from enum import StrEnum

from appliance.domain.nouns import Noun
from appliance.names import ResourceName


class Role(StrEnum):
    ADMIN = "admin"
    USER = "user"
    CONTRIBUTOR = "contributor"
    INFERENCE_USER = "inference-user"


class SuspendState(StrEnum):
    """Wire values of `Account.suspendState`: why an account may only read."""

    UNSUSPENDED = "UNSUSPENDED"
    FAILED_PAYMENTS = "FAILED_PAYMENTS"
    CREDIT_DEPLETED = "CREDIT_DEPLETED"
    MONTHLY_SPEND_LIMIT_EXCEEDED = "MONTHLY_SPEND_LIMIT_EXCEEDED"
    BLOCKED_BY_ABUSE_RULE = "BLOCKED_BY_ABUSE_RULE"


class Account(Noun, frozen=True, kw_only=True):
    id: str
    display_name: str = ""
    email: str = ""
    suspend_state: SuspendState = SuspendState.UNSUSPENDED
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return f"accounts/{self.id}"


class User(Noun, frozen=True, kw_only=True):
    account_id: str
    id: str
    display_name: str = ""
    email: str = ""
    role: Role
    is_service_account: bool = False
    """A program: it comes in with API keys and in no other way."""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "users", self.id))


class ApiKey(Noun, frozen=True, kw_only=True):
    """A key as stored: the secret itself is shown once at creation and only its SHA-256 stays."""

    account_id: str
    user_id: str
    id: str
    """Public part of the key, indexed; not secret."""
    display_name: str = ""
    secret_sha256: bytes
    annotations: dict[str, str] = {}
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    """At most `key_use_flush_s` late; None: never."""
    email: str = ""
    """Of its user, as it was when the key was read."""

    @property
    def user(self) -> str:
        return str(ResourceName(self.account_id, "users", self.user_id))

    @property
    def name(self) -> str:
        return f"{self.user}/apiKeys/{self.id}"


class Secret(Noun, frozen=True, kw_only=True):
    """What a job may use and nobody may read: a token of another service, say."""

    account_id: str
    id: str
    key_name: str
    """What programs know it by, e.g. the name of an environment variable."""
    sealed_value: bytes
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "secrets", self.id))


class SamlConfig(Noun, frozen=True, kw_only=True):
    """One of the two says where to send people and whose signature to believe."""

    metadata_url: str = ""
    metadata_xml: str = ""
    issuer: str = ""
    """The entity id in `metadata_xml`."""


class OidcConfig(Noun, frozen=True, kw_only=True):
    issuer_url: str
    client_id: str
    sealed_client_secret: bytes


class IdentityProvider(Noun, frozen=True, kw_only=True):
    """Who vouches for the people of an account. Exactly one of `saml` and `oidc` is there."""

    account_id: str
    id: str
    display_name: str
    saml: SamlConfig | None = None
    oidc: OidcConfig | None = None
    tenant_domains: list[str]
    """Only people with an address there are let in."""
    provisions_users: bool = False
    """Whether somebody who comes for the first time becomes a user."""
    provisioned_role: Role = Role.INFERENCE_USER
    allows_idp_initiated: bool = False
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "identityProviders", self.id))


class Origin(Noun, frozen=True, kw_only=True):
    """How a request came: what the audit log tells of it besides who asked. None of it decides anything."""

    method: str = ""
    """What was asked for, e.g. CreateModel."""
    request_id: str = ""
    client_address: str = ""
    user_agent: str = ""


class Principal(Noun, frozen=True, kw_only=True):
    """Who asks: the answer of `services/identity.py` to a key, carried on the request."""

    account_id: str
    user_id: str
    key_id: str
    role: Role
    suspend_state: SuspendState = SuspendState.UNSUSPENDED
    """Of the account."""
    origin: Origin = Origin()
