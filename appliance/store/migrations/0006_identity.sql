ALTER TABLE accounts ADD COLUMN suspend_state TEXT NOT NULL DEFAULT 'UNSUSPENDED';

CREATE UNIQUE INDEX users_one_email ON users (account_id, email COLLATE NOCASE) WHERE email != '';

ALTER TABLE api_keys ADD COLUMN annotations TEXT NOT NULL DEFAULT '{}'; -- JSON object of strings
ALTER TABLE api_keys ADD COLUMN last_used_at REAL;

CREATE TABLE secrets (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    key_name TEXT NOT NULL,
    sealed_value BLOB NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT;

CREATE TABLE identity_providers (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    saml TEXT, -- JSON of SamlConfig
    oidc TEXT, -- JSON of OidcConfig, the client's secret sealed
    tenant_domains TEXT NOT NULL, -- JSON list
    provisions_users INTEGER NOT NULL,
    provisioned_role TEXT NOT NULL,
    allows_idp_initiated INTEGER NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, id),
    CHECK ((saml IS NULL) != (oidc IS NULL))
) STRICT;
