CREATE INDEX accelerator_usage_by_time ON accelerator_usage (bucket_at);
CREATE INDEX api_keys_by_user ON api_keys (account_id, user_id);
CREATE INDEX audit_logs_by_account ON audit_logs (account_id, at);
CREATE INDEX deployed_models_by_deployment ON deployed_models (deployment);
CREATE INDEX deployed_models_by_model ON deployed_models (account_id, model);
CREATE UNIQUE INDEX deployed_models_once ON deployed_models (deployment, model)
WHERE state IN ('DEPLOYING', 'DEPLOYED');
CREATE UNIQUE INDEX deployed_models_one_default ON deployed_models (account_id, model) WHERE is_default;
CREATE INDEX deployments_by_base_model ON deployments (base_model);
CREATE INDEX deployments_by_draft_model ON deployments (draft_model);
CREATE INDEX leases_by_account ON leases (account_id);
CREATE INDEX models_by_default_draft ON models (default_draft_model) WHERE default_draft_model IS NOT NULL;
CREATE INDEX operations_running ON operations (state) WHERE state = 'RUNNING';
CREATE INDEX scaling_decisions_by_deployment ON scaling_decisions (account_id, deployment_id, at);
CREATE INDEX token_usage_by_time ON token_usage (bucket_at);
CREATE UNIQUE INDEX users_one_email ON users (account_id, email COLLATE NOCASE) WHERE email != '';
CREATE TABLE accelerator_usage (
    account_id TEXT NOT NULL, -- of the deployment
    bucket_at INTEGER NOT NULL,
    deployment TEXT NOT NULL,
    base_model TEXT NOT NULL,
    accelerator_type TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (account_id, bucket_at, deployment, base_model, accelerator_type)
) STRICT, WITHOUT ROWID;
CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    email TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL
, suspend_state TEXT NOT NULL DEFAULT 'UNSUSPENDED') STRICT;
CREATE TABLE api_keys (
    account_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE, -- a key is looked up before its account is known
    display_name TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL, annotations TEXT NOT NULL DEFAULT '{}', last_used_at REAL,
    PRIMARY KEY (account_id, id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
) STRICT;
CREATE TABLE audit_logs (
    seq INTEGER NOT NULL PRIMARY KEY, -- from 1, without gaps
    account_id TEXT NOT NULL,
    at REAL NOT NULL,
    user_account_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    role TEXT NOT NULL,
    method TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome TEXT NOT NULL,
    message TEXT NOT NULL,
    fields TEXT NOT NULL, -- JSON list
    count INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    client_address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE budget_holds (
    id TEXT NOT NULL PRIMARY KEY, -- of the request
    account_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    deployment TEXT NOT NULL,
    model TEXT NOT NULL,
    num_prompt_tokens INTEGER NOT NULL,
    num_cached_tokens INTEGER NOT NULL,
    num_completion_tokens INTEGER NOT NULL
, audio_ms INTEGER NOT NULL DEFAULT 0, num_images INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE datasets (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    state TEXT NOT NULL,
    status_message TEXT NOT NULL,
    format TEXT,
    example_count INTEGER,
    estimated_token_count INTEGER,
    average_turn_count REAL,
    directory TEXT NOT NULL UNIQUE,
    files TEXT NOT NULL, -- JSON list of DatasetFile
    size_bytes INTEGER NOT NULL,
    source_dataset TEXT, -- a name, not a foreign key: a chunk outlives what it was split from
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TABLE deployed_models (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    model TEXT NOT NULL,
    deployment TEXT NOT NULL,
    is_default INTEGER NOT NULL,
    state TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL, status_message TEXT NOT NULL DEFAULT '', description TEXT NOT NULL DEFAULT '', is_public INTEGER NOT NULL DEFAULT 0, has_failed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TABLE deployment_shape_versions (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    shape_id TEXT NOT NULL,
    number INTEGER NOT NULL, -- from 1
    snapshot TEXT NOT NULL, -- JSON of DeploymentShape
    is_public INTEGER NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (account_id, shape_id, number)
) STRICT;
CREATE TABLE deployments (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    base_model TEXT NOT NULL,
    state TEXT NOT NULL,
    status_message TEXT NOT NULL,
    min_replica_count INTEGER NOT NULL,
    max_replica_count INTEGER NOT NULL,
    desired_replica_count INTEGER NOT NULL,
    accelerator_type TEXT,
    accelerator_count INTEGER NOT NULL,
    precision TEXT,
    max_context_length INTEGER,
    annotations TEXT NOT NULL, -- JSON object of strings
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    deleted_at REAL,
    purge_at REAL, draft_model TEXT, draft_token_count INTEGER, ngram_speculation_length INTEGER, autoscaling TEXT NOT NULL DEFAULT '{}', auto_delete_s REAL NOT NULL DEFAULT 604800, shape TEXT, shape_preset TEXT, kv_cache_fraction REAL, enable_addons INTEGER NOT NULL DEFAULT 0, enable_session_affinity INTEGER NOT NULL DEFAULT 1, is_pinned INTEGER NOT NULL DEFAULT 0, may_evict INTEGER NOT NULL DEFAULT 1, is_serverless INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 1, termination_message TEXT NOT NULL DEFAULT '', last_used_at REAL, expires_at REAL,
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TABLE footprints (
    key TEXT NOT NULL PRIMARY KEY,
    num_bytes INTEGER NOT NULL,
    kv_bytes INTEGER NOT NULL,
    load_s REAL NOT NULL,
    warm_load_s REAL,
    measured_at REAL NOT NULL
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
CREATE TABLE leases (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    user_id TEXT NOT NULL,
    device_ids TEXT NOT NULL, -- JSON list
    num_bytes INTEGER NOT NULL,
    command TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE TABLE models (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    status_message TEXT NOT NULL,
    is_public INTEGER NOT NULL,
    directory TEXT NOT NULL UNIQUE,
    info TEXT, -- JSON of ModelInfo
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL, is_serverless INTEGER NOT NULL DEFAULT 0, base_model TEXT, addon_info TEXT, context_length INTEGER, default_draft_model TEXT, default_draft_token_count INTEGER, github_url TEXT NOT NULL DEFAULT '', hugging_face_url TEXT NOT NULL DEFAULT '', deprecation_date TEXT, imported_from TEXT NOT NULL DEFAULT '', size_bytes INTEGER NOT NULL DEFAULT 0, announced_files TEXT NOT NULL DEFAULT '{}', preparations TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TABLE operations (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    model TEXT NOT NULL,
    source TEXT NOT NULL,
    state TEXT NOT NULL,
    error_code TEXT NOT NULL,
    error_message TEXT NOT NULL,
    num_bytes INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TABLE quotas (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    subject TEXT NOT NULL,
    metric TEXT NOT NULL,
    value INTEGER, -- what the account's administrators allow; NULL: all that max_value does
    max_value INTEGER, -- what the box's administrators allow; NULL: no limit
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, subject, metric)
) STRICT;
CREATE TABLE replicas (
    account_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    replica_index INTEGER NOT NULL,
    device_ids TEXT NOT NULL, -- JSON list
    reserved_bytes INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    pid_started_ticks INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    started_at REAL NOT NULL,
    PRIMARY KEY (account_id, deployment_id, replica_index)
) STRICT;
CREATE TABLE reservations (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    accelerator_type TEXT NOT NULL,
    device_ids TEXT NOT NULL, -- JSON list
    starts_at REAL NOT NULL,
    ends_at REAL,
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TABLE scaling_decisions (
    account_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    at REAL NOT NULL,
    from_count INTEGER NOT NULL,
    to_count INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE secrets (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    key_name TEXT NOT NULL,
    sealed_value BLOB NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TABLE token_usage (
    account_id TEXT NOT NULL,
    bucket_at INTEGER NOT NULL, -- unix seconds: when its quarter of an hour began
    user_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    deployment TEXT NOT NULL,
    model TEXT NOT NULL,
    num_requests INTEGER NOT NULL,
    num_prompt_tokens INTEGER NOT NULL,
    num_cached_tokens INTEGER NOT NULL, -- of the prompt tokens
    num_completion_tokens INTEGER NOT NULL, audio_ms INTEGER NOT NULL DEFAULT 0, num_images INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, bucket_at, user_id, key_id, deployment, model)
) STRICT, WITHOUT ROWID;
CREATE TABLE users (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    is_service_account INTEGER NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT;
CREATE TRIGGER audit_logs_never_change BEFORE UPDATE ON audit_logs
BEGIN
    SELECT RAISE(ABORT, 'the audit log never changes');
END;
CREATE TRIGGER audit_logs_never_shrink BEFORE DELETE ON audit_logs
BEGIN
    SELECT RAISE(ABORT, 'the audit log never shrinks');
END;
