ALTER TABLE deployments ADD COLUMN draft_model TEXT; -- a name, as base_model is

ALTER TABLE deployments ADD COLUMN draft_token_count INTEGER;

ALTER TABLE deployments ADD COLUMN ngram_speculation_length INTEGER;

CREATE INDEX deployments_by_draft_model ON deployments (draft_model);
