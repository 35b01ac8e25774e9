-- A chain: `hash` is a keyed hash of the row before and of this one. Rows are added and never change.
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

CREATE INDEX audit_logs_by_account ON audit_logs (account_id, at);

CREATE TRIGGER audit_logs_never_change BEFORE UPDATE ON audit_logs
BEGIN
    SELECT RAISE(ABORT, 'the audit log never changes');
END;

CREATE TRIGGER audit_logs_never_shrink BEFORE DELETE ON audit_logs
BEGIN
    SELECT RAISE(ABORT, 'the audit log never shrinks');
END;
