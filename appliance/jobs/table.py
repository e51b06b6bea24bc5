"""The table of jobs: one row read or changed, each change with a new revision."""

import shutil
import sqlite3
from typing import Any

from appliance.jobs.errors import JobNotFoundError
from appliance.jobs.files import JobFiles
from appliance.jobs.places import remove_unfinished
from appliance.jobs.records import JobRecord
from appliance.jobs.rows import COLUMNS, read_row
from appliance.store.database import Database


class JobTable:
    """What the parts of the queue have in common."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> JobRecord:
        """Give a job.

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
