-- What may be used at most. A subject of the account: `users/ID`, `apiKeys/ID`, or empty for the account itself.
CREATE TABLE quotas (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    subject TEXT NOT NULL,
    metric TEXT NOT NULL,
    value INTEGER, -- what the account's administrators allow; NULL: all that max_value does
    max_value INTEGER, -- what the box's administrators allow; NULL: no limit
    updated_at REAL NOT NULL,
    PRIMARY KEY (account_id, subject, metric)
) STRICT;

-- What was used, by quarters of an hour, of which every time zone's days are made. Names, not foreign keys: what was
-- used is known for longer than what used it.
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
    num_completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (account_id, bucket_at, user_id, key_id, deployment, model)
) STRICT, WITHOUT ROWID;

CREATE INDEX token_usage_by_time ON token_usage (bucket_at);

CREATE TABLE accelerator_usage (
    account_id TEXT NOT NULL, -- of the deployment
    bucket_at INTEGER NOT NULL,
    deployment TEXT NOT NULL,
    base_model TEXT NOT NULL,
    accelerator_type TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (account_id, bucket_at, deployment, base_model, accelerator_type)
) STRICT, WITHOUT ROWID;

CREATE INDEX accelerator_usage_by_time ON accelerator_usage (bucket_at);

-- Requests under way whose account, user or key has a monthly budget, each with no less than it has used so far.
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
) STRICT;
