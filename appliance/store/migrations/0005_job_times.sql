-- How long a job was really worked on since its current try began, without pauses and waits between.
ALTER TABLE jobs ADD COLUMN worked_s REAL NOT NULL DEFAULT 0;
-- When the worker that holds it now took it.
ALTER TABLE jobs ADD COLUMN claimed_at REAL;
UPDATE jobs SET worked_s = MAX(0, finished_at - started_at) WHERE finished_at IS NOT NULL AND started_at IS NOT NULL;
