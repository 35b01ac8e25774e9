-- Devices held for an account. Those that are over stay as history until they are deleted.
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

-- A shape is its newest version; a version never changes but for who may see it.
CREATE TABLE deployment_shape_versions (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    shape_id TEXT NOT NULL,
    number INTEGER NOT NULL, -- from 1
    snapshot TEXT NOT NULL, -- JSON of DeploymentShape
    is_public INTEGER NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (account_id, shape_id, number)
) STRICT;
