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
