-- One table holds the state of every file in a watch folder, from the first scan on.
CREATE TABLE new_watched_files (
    folder   TEXT NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    state    TEXT NOT NULL CHECK (
        state IN ('seen', 'stable', 'validated', 'queued', 'done', 'duplicate', 'output', 'failed', 'ignored')
    ),
    digest   TEXT,
    job      TEXT,
    target   TEXT,
    same_as  TEXT,
    reason   TEXT NOT NULL DEFAULT '',
    tries    INTEGER NOT NULL DEFAULT 0,
    retry_at REAL,
    held     INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    -- When the row last changed.
    changed_at REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (folder, name)
) STRICT, WITHOUT ROWID;
INSERT INTO new_watched_files
    SELECT folder, name, size, mtime_ns,
        CASE state
            WHEN 'waiting' THEN 'validated' WHEN 'same' THEN 'duplicate' WHEN 'broken' THEN 'failed'
            WHEN 'cancelled' THEN 'ignored' WHEN 'ours' THEN 'output' ELSE state
        END,
        digest, job, target, same_as, reason, tries, retry_at, held, changed_at
    FROM watched_files;
DROP TABLE watched_files;
ALTER TABLE new_watched_files RENAME TO watched_files;
CREATE INDEX watched_files_by_state ON watched_files (folder, state);
CREATE INDEX watched_files_by_change ON watched_files (folder, changed_at);
CREATE TRIGGER watched_added AFTER INSERT ON watched_files BEGIN UPDATE folder_revision SET revision = revision + 1; END;
CREATE TRIGGER watched_changed AFTER UPDATE ON watched_files BEGIN UPDATE folder_revision SET revision = revision + 1; END;
CREATE TRIGGER watched_removed AFTER DELETE ON watched_files BEGIN UPDATE folder_revision SET revision = revision + 1; END;
-- Files that are not stable yet are rows now.
ALTER TABLE folders DROP COLUMN settling;
