-- When it was last noted what became of a file.
ALTER TABLE watched_files ADD COLUMN changed_at REAL NOT NULL DEFAULT 0;
CREATE INDEX watched_files_by_change ON watched_files (folder, changed_at);
-- How many files are not left alone yet; how many are no media by their names, and some of those names as JSON.
ALTER TABLE folders ADD COLUMN settling INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folders ADD COLUMN passed_over INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folders ADD COLUMN passed_over_names TEXT NOT NULL DEFAULT '[]';

-- Counts the changes of the folders and their files, as job_revision does those of the jobs.
CREATE TABLE folder_revision (revision INTEGER NOT NULL) STRICT;
INSERT INTO folder_revision VALUES (0);
CREATE TRIGGER folder_added AFTER INSERT ON folders BEGIN UPDATE folder_revision SET revision = revision + 1; END;
CREATE TRIGGER folder_changed AFTER UPDATE ON folders BEGIN UPDATE folder_revision SET revision = revision + 1; END;
CREATE TRIGGER folder_removed AFTER DELETE ON folders BEGIN UPDATE folder_revision SET revision = revision + 1; END;
CREATE TRIGGER watched_added AFTER INSERT ON watched_files BEGIN UPDATE folder_revision SET revision = revision + 1; END;
CREATE TRIGGER watched_changed AFTER UPDATE ON watched_files BEGIN UPDATE folder_revision SET revision = revision + 1; END;
CREATE TRIGGER watched_removed AFTER DELETE ON watched_files BEGIN UPDATE folder_revision SET revision = revision + 1; END;
