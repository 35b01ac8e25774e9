CREATE INDEX api_keys_by_user ON api_keys (account_id, user_id);
CREATE INDEX deployed_models_by_deployment ON deployed_models (deployment);
CREATE INDEX deployed_models_by_model ON deployed_models (account_id, model);
CREATE UNIQUE INDEX deployed_models_once ON deployed_models (deployment, model)
WHERE state IN ('DEPLOYING', 'DEPLOYED');
CREATE UNIQUE INDEX deployed_models_one_default ON deployed_models (account_id, model) WHERE is_default;
CREATE INDEX deployments_by_base_model ON deployments (base_model);
CREATE INDEX deployments_by_draft_model ON deployments (draft_model);
CREATE INDEX leases_by_account ON leases (account_id);
CREATE INDEX scaling_decisions_by_deployment ON scaling_decisions (account_id, deployment_id, at);
CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    email TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL
) STRICT;
CREATE TABLE api_keys (
    account_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE, -- a key is looked up before its account is known
    display_name TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    PRIMARY KEY (account_id, id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
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
    updated_at REAL NOT NULL, is_serverless INTEGER NOT NULL DEFAULT 0, base_model TEXT, addon_info TEXT,
    PRIMARY KEY (account_id, id)
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
CREATE TABLE scaling_decisions (
    account_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    at REAL NOT NULL,
    from_count INTEGER NOT NULL,
    to_count INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
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
