-- Counts the requests to try again what failed in a folder, or to ignore it: whoever watches it reads its files anew.
ALTER TABLE folders ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
