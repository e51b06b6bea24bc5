"""The table of jobs: one row read or changed, each change with a new revision."""

import shutil
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

from appliance.jobs.errors import JobNotFoundError
from appliance.jobs.job import COLUMNS, JobRecord, JobState, path_column, read_row
from appliance.jobs.job_files import JobFiles, remove_unfinished
from appliance.store.database import Database


class JobTable:
    """What the parts of the queue have in common."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> JobRecord:
        """Return a job.

        Raises:
            JobNotFoundError: No job has that id.
        """
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise JobNotFoundError(f"there is no job {job_id}; it may have been removed")
        return read_row(row)

    def _drop_workspace(self, files: JobFiles, job: JobRecord | None = None) -> None:
        """Remove what a job has done so far once the transaction is over; with `job` what lies at its target too."""
        aside = files.set_aside_workspace()
        if aside is not None:
            self._database.after_commit(lambda: shutil.rmtree(aside, ignore_errors=True))
        if job is not None:
            self._database.after_commit(lambda: remove_unfinished(job, files))

    def _change(self, connection: sqlite3.Connection, job_id: str, **columns: Any) -> None:
        """Set columns of a job, inside a transaction."""
        names = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(
            f"UPDATE jobs SET {names}, revision = ? WHERE id = ?",
            (*columns.values(), self._next_revision(connection), job_id),
        )

    def _next_revision(self, connection: sqlite3.Connection) -> int:
        row = connection.execute("UPDATE job_revision SET revision = revision + 1 RETURNING revision").fetchone()
        return int(row[0])


# Inside the class, `list` is a method.
Jobs = list[JobRecord]
Ids = list[str]


class Listing(JobTable):
    """The reading half of the queue."""

    def list(
        self,
        *,
        states: Collection[JobState] | None = None,
        text: str = "",
        owner: str | None = None,
        folder: str | None = None,
        previews: bool = True,
        preset: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Jobs:
        """Return jobs: queued ones alone in the order of their turn, all others the newest first.

        Args:
            states: Only jobs in one of these.
            text: Only jobs whose title contains it, whatever its case.
            owner: Only jobs of that user id.
            folder: Only jobs of that watch folder id.
            preset: Only jobs of that preset.
            since: Only jobs that were added then or later; seconds since 1970, as `until`.
            until: Only jobs that were added before.
            previews: Also previews.
            limit: At most that many.
            offset: Leave out that many first.
        """
        wanted = _conditions(
            text=text, owner=owner, folder=folder, preset=preset, since=since, until=until, previews=previews
        )
        query, values = select_jobs(states, wanted, limit=limit, offset=offset)
        with self._database.read() as connection:
            return [read_row(row) for row in connection.execute(query, values)]

    def previews_ended_before(self, moment: float) -> Ids:
        """Return the ids of the previews that ended before a moment."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id FROM jobs WHERE preview_of IS NOT NULL AND finished_at < ? "
                "AND state IN ('done', 'failed', 'cancelled')",
                (moment,),
            )
            return [row["id"] for row in rows]

    def is_held(self) -> bool:
        """Return whether no further job is started for now."""
        with self._database.read() as connection:
            return connection.execute("SELECT 1 FROM queue_hold").fetchone() is not None

    def count(
        self,
        *,
        states: Collection[JobState],
        text: str = "",
        owner: str | None = None,
        folder: str | None = None,
        preset: str | None = None,
        since: float | None = None,
        until: float | None = None,
        previews: bool = True,
    ) -> int:
        """Count the jobs that `list` would give without a limit."""
        conditions, values = _conditions(
            text=text, owner=owner, folder=folder, preset=preset, since=since, until=until, previews=previews
        )
        marks = ", ".join("?" * len(states))
        where = " AND ".join([f"state IN ({marks})", *conditions])
        with self._database.read() as connection:
            row = connection.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}", (*states, *values)).fetchone()
        return int(row[0])

    def counts(self, owner: str | None = None) -> dict[JobState, int]:
        """Count the jobs in each state, those with none too; of one user, or of all."""
        query, values = (COUNT_JOBS, ()) if owner is None else (COUNT_OWN_JOBS, (owner,))
        with self._database.read() as connection:
            found = dict(connection.execute(query, values).fetchall())
        return {state: found.get(state.value, 0) for state in JobState}

    def revision(self) -> int:
        """Return the number of the last change."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT revision FROM job_revision").fetchone()[0])

    def folder_revision(self) -> int:
        """Return the number of the last change of the watch folders and their files."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT revision FROM folder_revision").fetchone()[0])

    def changed_since(self, revision: int) -> Jobs:
        """Return the jobs that changed after a revision, in the order of their changes."""
        with self._database.read() as connection:
            return [read_row(row) for row in connection.execute(CHANGED_JOBS, (revision,))]

    def removed_since(self, revision: int) -> Ids:
        """Return the ids of jobs that were removed after a revision; the last thousand are known."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT id FROM removed_jobs WHERE revision > ? ORDER BY revision", (revision,))
            return [row["id"] for row in rows]

    def with_id_like(self, beginning: str) -> Jobs:
        """Return the jobs whose id begins so, at most ten."""
        with self._database.read() as connection:
            # A range, unlike LIKE, is looked up in the index and minds the case.
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT 10",
                (beginning, f"{beginning}~"),
            )
            return [read_row(row) for row in rows]

    def with_digest(self, digest: str) -> Jobs:
        """Return the jobs whose source has that content, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE source_digest = ? ORDER BY created_at, id", (digest,)
            )
            return [read_row(row) for row in rows]

    def with_source(self, source: Path) -> Jobs:
        """Return the jobs that read a file, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE source = ? ORDER BY created_at, id",
                (path_column(source.absolute()),),
            )
            return [read_row(row) for row in rows]


COUNT_JOBS = "SELECT state, COUNT(*) FROM jobs GROUP BY state"
COUNT_OWN_JOBS = "SELECT state, COUNT(*) FROM jobs WHERE owner = ? GROUP BY state"
CHANGED_JOBS = f"SELECT {COLUMNS} FROM jobs WHERE revision > ? ORDER BY revision"

_BY_TURN = "priority DESC, position"
_BY_AGE = "created_at DESC, id"


def _conditions(
    *,
    text: str,
    owner: str | None,
    folder: str | None,
    preset: str | None,
    since: float | None,
    until: float | None,
    previews: bool,
) -> tuple[list[str], list[Any]]:
    """Write what a job must be, with the values."""
    conditions: list[str] = []
    values: list[Any] = []
    parts = (
        ("owner = ?", owner),
        ("folder = ?", folder),
        ("json_extract(options, '$.preset') = ?", preset),
        ("created_at >= ?", since),
        ("created_at < ?", until),
    )
    for condition, value in parts:
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if not previews:
        conditions.append("preview_of IS NULL")
    if text:
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("title LIKE ? ESCAPE '\\'")
        values.append(f"%{escaped}%")
    return conditions, values


def select_jobs(
    states: Collection[JobState] | None,
    wanted: tuple[list[str], list[Any]] = ([], []),
    *,
    limit: int = 100,
    offset: int = 0,
) -> tuple[str, list[Any]]:
    """Write the query of `Listing.list` with its values."""
    conditions, values = wanted
    if states is None:
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        return f"SELECT {COLUMNS} FROM jobs {where}ORDER BY {_BY_AGE} LIMIT ? OFFSET ?", [*values, limit, offset]
    chosen = sorted(set(states))
    if not chosen:
        return f"SELECT {COLUMNS} FROM jobs WHERE FALSE", []
    order = _BY_TURN if chosen == [JobState.QUEUED] else _BY_AGE
    # Each state by itself is read in the order of its index; together they are at most states x (limit + offset) rows
    # to sort, however many jobs there are.
    part = f"SELECT {COLUMNS} FROM jobs WHERE {' AND '.join(['state = ?', *conditions])} ORDER BY {order} LIMIT ?"
    if len(chosen) == 1:
        return f"{part} OFFSET ?", [chosen[0], *values, limit, offset]
    parts = " UNION ALL ".join(f"SELECT * FROM ({part})" for _ in chosen)
    everything: list[Any] = []
    for state in chosen:
        everything += [state, *values, limit + offset]
    return f"{parts} ORDER BY {order} LIMIT ? OFFSET ?", [*everything, limit, offset]
