ALTER TABLE models ADD COLUMN context_length INTEGER;
ALTER TABLE models ADD COLUMN default_draft_model TEXT; -- a name, not a foreign key: it may be another account's
ALTER TABLE models ADD COLUMN default_draft_token_count INTEGER;
ALTER TABLE models ADD COLUMN github_url TEXT NOT NULL DEFAULT '';
ALTER TABLE models ADD COLUMN hugging_face_url TEXT NOT NULL DEFAULT '';
ALTER TABLE models ADD COLUMN deprecation_date TEXT;
ALTER TABLE models ADD COLUMN imported_from TEXT NOT NULL DEFAULT '';
ALTER TABLE models ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE models ADD COLUMN announced_files TEXT NOT NULL DEFAULT '{}'; -- JSON object of sizes

-- Of earlier versions' models only the weights' size is known here.
UPDATE models SET size_bytes = coalesce(
    json_extract(info, '$.weight_bytes'), json_extract(addon_info, '$.weight_bytes'), 0
);

CREATE INDEX models_by_default_draft ON models (default_draft_model) WHERE default_draft_model IS NOT NULL;

-- Imports of models. The model is a name: the operation tells of it after it is gone.
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

CREATE INDEX operations_running ON operations (state) WHERE state = 'RUNNING';
