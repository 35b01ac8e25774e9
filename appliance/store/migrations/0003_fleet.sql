ALTER TABLE models ADD COLUMN is_serverless INTEGER NOT NULL DEFAULT 0;

ALTER TABLE deployments ADD COLUMN autoscaling TEXT NOT NULL DEFAULT '{}'; -- JSON of AutoscalingPolicy
ALTER TABLE deployments ADD COLUMN auto_delete_s REAL NOT NULL DEFAULT 604800;
ALTER TABLE deployments ADD COLUMN shape TEXT;
ALTER TABLE deployments ADD COLUMN shape_preset TEXT;
ALTER TABLE deployments ADD COLUMN kv_cache_fraction REAL;
ALTER TABLE deployments ADD COLUMN enable_addons INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN enable_session_affinity INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deployments ADD COLUMN is_pinned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN may_evict INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deployments ADD COLUMN is_serverless INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deployments ADD COLUMN termination_message TEXT NOT NULL DEFAULT '';
ALTER TABLE deployments ADD COLUMN last_used_at REAL;
ALTER TABLE deployments ADD COLUMN expires_at REAL;

-- One that was there before counts as used at the upgrade: nothing is deleted for a silence nobody recorded.
UPDATE deployments SET last_used_at = unixepoch();

ALTER TABLE deployed_models ADD COLUMN status_message TEXT NOT NULL DEFAULT '';
ALTER TABLE deployed_models ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE deployed_models ADD COLUMN is_public INTEGER NOT NULL DEFAULT 0;

-- No foreign keys: the history of a deployment that is gone goes with the next sweep.
CREATE TABLE scaling_decisions (
    account_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    at REAL NOT NULL,
    from_count INTEGER NOT NULL,
    to_count INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE INDEX scaling_decisions_by_deployment ON scaling_decisions (account_id, deployment_id, at);

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

CREATE INDEX leases_by_account ON leases (account_id);
