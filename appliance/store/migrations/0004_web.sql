-- Uploads on their way or waiting for a job, and webhooks with what is still to be delivered.

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    -- Bytes that are on the disk for certain; what the file has beyond them counts as not sent.
    offset_bytes INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    touched_at REAL NOT NULL,
    finished_at REAL,
    probe TEXT,
    error TEXT,
    job TEXT
) STRICT;
CREATE INDEX uploads_of_owner ON uploads (owner, created_at);

CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    secret TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at REAL NOT NULL,
    last_status TEXT
) STRICT;

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    -- Names what happened, so that it is told once: "job.done <id> <time>".
    occasion TEXT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL,
    done INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    UNIQUE (webhook, occasion)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (done, next_at);

-- How far the jobs' changes have been turned into deliveries.
CREATE TABLE webhook_mark (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;
