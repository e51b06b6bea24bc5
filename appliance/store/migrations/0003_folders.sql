-- Watch folders, what became of the files in them, and the contents that were done, so that none is done twice.

CREATE TABLE folders (
    id             TEXT PRIMARY KEY,
    created_at     REAL NOT NULL,
    path           TEXT NOT NULL UNIQUE,
    destination    TEXT NOT NULL,
    options        TEXT NOT NULL,
    schedule_begin TEXT,
    schedule_end   TEXT,
    hold_s         REAL NOT NULL CHECK (hold_s >= 0),
    include        TEXT NOT NULL,
    exclude        TEXT NOT NULL,
    polling        INTEGER NOT NULL CHECK (polling IN (0, 1)),
    done_folder    TEXT,
    enabled        INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    mount          TEXT,
    destination_mount TEXT,
    trouble        TEXT,
    trouble_tries  INTEGER NOT NULL DEFAULT 0,
    CHECK ((schedule_begin IS NULL) = (schedule_end IS NULL))
) STRICT;

-- `name` is the path below the folder; size and time are those that the row was made for.
CREATE TABLE watched_files (
    folder   TEXT NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('waiting', 'queued', 'done', 'same', 'broken', 'cancelled', 'ours')),
    digest   TEXT,
    job      TEXT,
    target   TEXT,
    same_as  TEXT,
    reason   TEXT NOT NULL DEFAULT '',
    tries    INTEGER NOT NULL DEFAULT 0,
    retry_at REAL,
    held     INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    PRIMARY KEY (folder, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX watched_files_by_state ON watched_files (folder, state);

-- A content and the options that it was, or is being, done with; `name` is the file that stands for it.
CREATE TABLE watched_contents (
    folder  TEXT NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    digest  TEXT NOT NULL,
    options TEXT NOT NULL,
    name    TEXT NOT NULL,
    PRIMARY KEY (folder, digest, options)
) STRICT, WITHOUT ROWID;

-- What Relume itself made out of watched files: the names that results have or will have, and their contents.
CREATE TABLE watched_results (
    target TEXT PRIMARY KEY,
    digest TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX watched_results_by_digest ON watched_results (digest) WHERE digest IS NOT NULL;
