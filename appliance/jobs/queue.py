"""The queue of jobs: submit, list and control them. The side of the workers is in `lease`."""

import secrets
import shutil
import string
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final, Unpack

from appliance.jobs.errors import JobStateError
from appliance.jobs.job import (
    COLUMNS,
    JobCommand,
    JobRecord,
    JobState,
    NewJob,
    options_to_json,
    path_column,
    read_row,
)
from appliance.jobs.job_files import ASIDE, JobFiles, remove_unfinished
from appliance.jobs.job_table import (
    CHANGED_JOBS,
    COUNT_JOBS,
    COUNT_OWN_JOBS,
    JobFilter,
    JobTable,
    Publication,
    select_jobs,
    write_conditions,
)
from appliance.jobs.lease import JobLease
from appliance.store.database import Database
from runtime.options import EnhanceOptions

_LETTERS: Final = string.ascii_letters + string.digits
_KEPT_REMOVALS: Final = 1000

# Inside the class, `list` is a method.
Jobs = list[JobRecord]
Ids = list[str]


class JobQueue:
    """The jobs of one data directory; any number of processes may use it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = JobTable(database)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._table.data

    def files(self, job_id: str) -> JobFiles:
        """Return the paths of a job's files."""
        return self._table.files(job_id)

    def lease(self, worker: str) -> JobLease:
        """Return the side of the queue of one worker."""
        return JobLease(self._database, worker)

    def get(self, job_id: str) -> JobRecord:
        """Return a job.

        Raises:
            JobNotFoundError: No job has that id.
        """
        return self._table.get(job_id)

    def list(
        self,
        *,
        states: Collection[JobState] | None = None,
        limit: int = 100,
        offset: int = 0,
        **wanted: Unpack[JobFilter],
    ) -> Jobs:
        """Return jobs: queued ones alone in processing order, all others newest first.

        Args:
            states: Only jobs in one of these.
            limit: Maximum number of jobs.
            offset: Number of jobs to skip.
            wanted: Further conditions.
        """
        query, values = select_jobs(states, write_conditions(wanted), limit=limit, offset=offset)
        with self._database.read() as connection:
            return [read_row(row) for row in connection.execute(query, values)]

    def count(self, *, states: Collection[JobState], **wanted: Unpack[JobFilter]) -> int:
        """Count the jobs that `list` returns without a limit."""
        conditions, values = write_conditions(wanted)
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
        """Return up to ten jobs whose id begins with a text."""
        with self._database.read() as connection:
            # A range, unlike LIKE, uses the index and is case-sensitive.
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT 10",
                (beginning, f"{beginning}~"),
            )
            return [read_row(row) for row in rows]

    def publication(self, job_id: str) -> Publication | None:
        """Return the recorded publication of a job's result, None before that step."""
        return self._table.publication(job_id)

    def workers_with_jobs(self) -> set[str]:
        """Return the workers that hold a job."""
        with self._database.read() as connection:
            return {str(row[0]) for row in connection.execute("SELECT worker FROM jobs WHERE worker IS NOT NULL")}

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
        """Return True while the queue is held: no further job starts."""
        with self._database.read() as connection:
            return connection.execute("SELECT 1 FROM queue_hold").fetchone() is not None

    def add(self, new: NewJob) -> JobRecord:
        """Add a job behind those with its priority."""
        # Letters and digits only: an id that begins with a dash would be read as an option of a command.
        job_id = "".join(secrets.choice(_LETTERS) for _ in range(16))
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO jobs (id, created_at, title, source, target, options, owner, origin, state, priority, "
                "position, preview_of, folder, source_digest, revision) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
                (
                    job_id,
                    time.time(),
                    new.title.encode("utf-8", "replace").decode(),
                    path_column(new.source.absolute()),
                    path_column(None if new.target is None else new.target.absolute()),
                    options_to_json(new.options),
                    new.owner,
                    new.origin,
                    new.priority,
                    self._table.last_position(connection) + 1.0,
                    new.preview_of,
                    new.folder,
                    new.source_digest,
                    self._table.next_revision(connection),
                ),
            )
            return self.get(job_id)

    def remove(self, job_id: str) -> None:
        """Delete a finished job and its files in the data directory.

        A result outside of it stays, and so does the source.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job has not ended.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if not job.is_finished:
                raise JobStateError(f"{job.title!r} is {job.state}; cancel it before removing it")
            if job.state is not JobState.DONE:
                self._database.after_commit(lambda: remove_unfinished(job, self.files(job_id)))
            self._database.after_commit(self.files(job_id).remove)
            revision = self._table.next_revision(connection)
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            connection.execute("INSERT INTO removed_jobs (revision, id) VALUES (?, ?)", (revision, job_id))
            connection.execute(
                "DELETE FROM removed_jobs WHERE revision <= "
                "(SELECT revision FROM removed_jobs ORDER BY revision DESC LIMIT 1 OFFSET ?)",
                (_KEPT_REMOVALS,),
            )

    def pause(self, job_id: str) -> JobRecord:
        """Pause a job; a running one stops soon, and its progress is kept.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job has ended, or is being cancelled.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state is JobState.QUEUED:
                self._table.change(connection, job_id, state=JobState.PAUSED)
            elif job.state is JobState.RUNNING and job.command is not JobCommand.CANCEL:
                self._table.change(connection, job_id, wish=JobCommand.PAUSE)
            elif job.state is not JobState.PAUSED:
                raise _refusal(job, "paused")
            return self.get(job_id)

    def resume(self, job_id: str) -> JobRecord:
        """Resume a paused job.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job is not paused.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state is JobState.PAUSED:
                self._table.change(connection, job_id, state=JobState.QUEUED, message="")
            elif job.state is JobState.RUNNING and job.command is JobCommand.PAUSE:
                self._table.change(connection, job_id, wish=None)
            elif job.state not in (JobState.QUEUED, JobState.RUNNING) or job.command is not None:
                raise _refusal(job, "resumed")
            return self.get(job_id)

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a job; its progress is discarded.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job has ended already.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state in (JobState.QUEUED, JobState.PAUSED):
                self._table.change(
                    connection, job_id, state=JobState.CANCELLED, finished_at=time.time(), **_NO_PROGRESS
                )
                self._table.discard_workspace(job_id, unfinished_of=job)
            elif job.state is JobState.RUNNING:
                self._table.change(connection, job_id, wish=JobCommand.CANCEL)
            elif job.state is not JobState.CANCELLED:
                raise _refusal(job, "cancelled")
            return self.get(job_id)

    def retry(self, job_id: str, *, allow_damaged: bool = False) -> JobRecord:
        """Queue a failed or cancelled job again; a failed one resumes.

        With `allow_damaged` a damaged source is enhanced as far as it can be read, from then on.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job has not ended, or ended well.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state not in (JobState.FAILED, JobState.CANCELLED):
                raise _refusal(job, "retried")
            options = replace(job.options, allow_damaged=True) if allow_damaged else job.options
            self._table.change(
                connection,
                job_id,
                state=JobState.QUEUED,
                options=options_to_json(options),
                position=self._table.last_position(connection) + 1.0,
                started_at=None,
                finished_at=None,
                worked_s=0.0,
                message="",
                code="",
                attempts=0,
                faults=0,
                stops=0,
                wish=None,
                **_NO_PROGRESS,
            )
            return self.get(job_id)

    def prioritise(self, job_id: str, priority: int) -> JobRecord:
        """Set a job's priority; higher runs earlier.

        Raises:
            JobNotFoundError: No job has that id.
        """
        with self._database.transaction() as connection:
            self.get(job_id)
            self._table.change(connection, job_id, priority=priority)
            return self.get(job_id)

    def move(self, job_id: str, *, before: str | None) -> JobRecord:
        """Move a queued job right before another one, whose priority it gets; with None to the end of the queue.

        Raises:
            JobNotFoundError: One of the jobs does not exist.
            JobStateError: One of them is not queued.
        """
        with self._database.transaction() as connection:
            for job in (self.get(job_id), *([self.get(before)] if before is not None else [])):
                if job.state is not JobState.QUEUED:
                    raise JobStateError(f"{job.title!r} is {job.state}; only queued jobs can be moved")
            if before != job_id:
                priority, position = self._table.find_position(connection, job_id, before)
                self._table.change(connection, job_id, priority=priority, position=position)
            return self.get(job_id)

    def change_options(self, job_id: str, options: EnhanceOptions) -> JobRecord:
        """Change the options of a job that has not started.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: It has started, or has ended.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state not in (JobState.QUEUED, JobState.PAUSED) or job.frames_done:
                raise JobStateError(
                    f"{job.title!r} has started, so its settings cannot be changed; cancel it or wait for its end, and "
                    "enhance the file again with other settings"
                )
            # Segments that were made with other options could not be used.
            self._table.discard_workspace(job_id)
            self._table.change(connection, job_id, options=options_to_json(options), estimate=None)
            return self.get(job_id)

    def remove_leftovers(self) -> None:
        """Remove the files of jobs that were removed or cancelled right before a crash."""
        for job_id in self.removed_since(0):
            self.files(job_id).remove()
        for path in (self.data / "jobs").glob(f"*/{ASIDE}*"):
            shutil.rmtree(path, ignore_errors=True)

    def hold(self, *, on: bool) -> None:
        """Hold the queue, so that no further job starts, or release it; running jobs go on."""
        with self._database.transaction() as connection:
            if on:
                connection.execute("INSERT OR IGNORE INTO queue_hold (one, since) VALUES (1, ?)", (time.time(),))
            else:
                connection.execute("DELETE FROM queue_hold")
            # A new revision, so that observers of the queue read this too.
            self._table.next_revision(connection)

    def set_estimate(self, job_id: str, estimate: str) -> JobRecord:
        """Store the estimate of time and space of a job, as JSON.

        Raises:
            JobNotFoundError: No job has that id.
        """
        with self._database.transaction() as connection:
            self.get(job_id)
            self._table.change(connection, job_id, estimate=estimate)
            return self.get(job_id)


_NO_PROGRESS: Final = {"stage": "", "frames_done": 0, "fps": 0.0, "eta_s": None}


def _refusal(job: JobRecord, what: str) -> JobStateError:
    words = {
        JobState.DONE: "is done",
        JobState.FAILED: "has failed",
        JobState.CANCELLED: "was cancelled",
        JobState.QUEUED: "is queued",
        JobState.PAUSED: "is paused",
        JobState.RUNNING: "is being cancelled" if job.command is JobCommand.CANCEL else "is running",
    }
    can_retry = job.state in (JobState.FAILED, JobState.CANCELLED) and what != "retried"
    advice = "; retry it instead" if can_retry else ""
    return JobStateError(f"{job.title!r} {words[job.state]}, so it cannot be {what}{advice}")
