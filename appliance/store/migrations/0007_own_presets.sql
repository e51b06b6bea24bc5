-- Choices that people saved under a name; without an owner they are for everybody.
CREATE TABLE own_presets (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    owner TEXT REFERENCES users (id) ON DELETE CASCADE,
    choices TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
CREATE INDEX own_presets_of_owner ON own_presets (owner, name);

-- What a user's new jobs begin with.
CREATE TABLE default_presets (
    user TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    preset TEXT NOT NULL REFERENCES own_presets (id) ON DELETE CASCADE
) STRICT;

-- One row while no further job is started.
CREATE TABLE queue_hold (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    since REAL NOT NULL
) STRICT;
