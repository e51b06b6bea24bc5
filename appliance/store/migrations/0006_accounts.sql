-- Why a job failed, for programs and for the page's own words; empty where it did not.
ALTER TABLE jobs ADD COLUMN code TEXT NOT NULL DEFAULT '';
-- The first password that an administrator gave is changed at the first log-in.
ALTER TABLE users ADD COLUMN must_change INTEGER NOT NULL DEFAULT 0 CHECK (must_change IN (0, 1));
-- Language of the page (empty: the browser's), and where notifications go.
ALTER TABLE users ADD COLUMN language TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN email TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN email_events TEXT NOT NULL DEFAULT '';
-- What the browser called itself, so that one knows one's own log-ins.
ALTER TABLE sessions ADD COLUMN agent TEXT NOT NULL DEFAULT '';
