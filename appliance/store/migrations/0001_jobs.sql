-- Jobs, in the order in which they run: higher priority first, then lower position.
-- Paths are text, or a blob of the same bytes where they are not UTF-8.
CREATE TABLE jobs (
    id            TEXT PRIMARY KEY,
    created_at    REAL NOT NULL,
    started_at    REAL,
    finished_at   REAL,
    title         TEXT NOT NULL,
    source        ANY NOT NULL,
    target        ANY,
    result        ANY,
    options       TEXT NOT NULL,
    owner         TEXT,
    origin        TEXT NOT NULL CHECK (origin IN ('upload', 'watch', 'command')),
    state         TEXT NOT NULL CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'cancelled')),
    wish          TEXT CHECK (wish IN ('pause', 'cancel')),
    priority      INTEGER NOT NULL,
    position      REAL NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    faults        INTEGER NOT NULL DEFAULT 0,
    stops         INTEGER NOT NULL DEFAULT 0,
    segments      INTEGER NOT NULL DEFAULT 0,
    stage         TEXT NOT NULL DEFAULT '',
    frames_done   INTEGER NOT NULL DEFAULT 0,
    frames_total  INTEGER,
    fps           REAL NOT NULL DEFAULT 0,
    eta_s         REAL,
    message       TEXT NOT NULL DEFAULT '',
    preview_of    TEXT,
    folder        TEXT,
    source_digest TEXT,
    estimate      TEXT,
    worker        TEXT,
    publication   TEXT,
    revision      INTEGER NOT NULL
) STRICT;

CREATE INDEX jobs_by_turn ON jobs (state, priority DESC, position);
CREATE INDEX jobs_by_state ON jobs (state, created_at DESC, id);
CREATE INDEX jobs_by_age ON jobs (created_at DESC, id);
CREATE INDEX jobs_by_owner ON jobs (owner, created_at DESC, id) WHERE owner IS NOT NULL;
CREATE INDEX jobs_by_folder ON jobs (folder, created_at DESC, id) WHERE folder IS NOT NULL;
CREATE INDEX jobs_by_digest ON jobs (source_digest) WHERE source_digest IS NOT NULL;
CREATE UNIQUE INDEX jobs_by_worker ON jobs (worker) WHERE worker IS NOT NULL;
CREATE INDEX jobs_by_source ON jobs (source);
CREATE UNIQUE INDEX jobs_by_revision ON jobs (revision);

-- What changed last, also when it was a removal: one row.
CREATE TABLE job_revision (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO job_revision VALUES (1, 0);

CREATE TABLE removed_jobs (
    revision INTEGER PRIMARY KEY,
    id       TEXT NOT NULL
) STRICT;

-- One row a worker process; `beat` counts up while it gets on with its work.
CREATE TABLE workers (
    name TEXT PRIMARY KEY,
    pid  INTEGER NOT NULL,
    beat INTEGER NOT NULL DEFAULT 0
) STRICT;
