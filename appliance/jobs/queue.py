"""The queue of jobs: what people and folders ask of it. What a worker does with a job is in `holding`."""

import secrets
import shutil
import sqlite3
import string
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.jobs.errors import JobLostError, JobNotFoundError, JobStateError
from appliance.jobs.job import (
    Blame,
    JobRecord,
    JobState,
    NewJob,
    Origin,
    Wish,
    options_from_json,
    options_to_json,
    path_column,
)
from appliance.jobs.job_files import ASIDE, JobFiles, remove_unfinished
from appliance.jobs.job_table import Listing
from appliance.jobs.lease import Holding
from runtime.options import EnhanceOptions

__all__ = [
    "Blame",
    "JobLostError",
    "JobNotFoundError",
    "JobQueue",
    "JobRecord",
    "JobState",
    "JobStateError",
    "NewJob",
    "Origin",
    "Wish",
    "options_from_json",
    "options_to_json",
]

_LETTERS: Final = string.ascii_letters + string.digits
_KEPT_REMOVALS: Final = 1000
_LEAST_GAP: Final = 1e-6


class JobQueue(Listing, Holding):
    """The jobs of one data directory; any number of processes may use it at once."""

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._database.path.parent

    def files(self, job_id: str) -> JobFiles:
        """Tell where the files of a job lie."""
        return JobFiles(self.data, job_id)

    def add(self, new: NewJob) -> JobRecord:
        """Put a job at the end of those with its priority."""
        # Letters and figures alone: an id that begins with a dash would be an option to a command.
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
                    self._end(connection),
                    new.preview_of,
                    new.folder,
                    new.source_digest,
                    self._next_revision(connection),
                ),
            )
            return self.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a finished job and remove its files from the data directory.

        A result at a place outside of it stays, and so does the source.

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
            revision = self._next_revision(connection)
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            connection.execute("INSERT INTO removed_jobs (revision, id) VALUES (?, ?)", (revision, job_id))
            connection.execute(
                "DELETE FROM removed_jobs WHERE revision <= "
                "(SELECT revision FROM removed_jobs ORDER BY revision DESC LIMIT 1 OFFSET ?)",
                (_KEPT_REMOVALS,),
            )

    def pause(self, job_id: str) -> JobRecord:
        """Hold a job back; a running one stops soon and keeps what it has done.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job has ended, or is being cancelled.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state is JobState.QUEUED:
                self._change(connection, job_id, state=JobState.PAUSED)
            elif job.state is JobState.RUNNING and job.wish is not Wish.CANCEL:
                self._change(connection, job_id, wish=Wish.PAUSE)
            elif job.state is not JobState.PAUSED:
                raise _refusal(job, "paused")
            return self.get(job_id)

    def resume(self, job_id: str) -> JobRecord:
        """Let a paused job go on where it was.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job is not paused.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state is JobState.PAUSED:
                self._change(connection, job_id, state=JobState.QUEUED, message="")
            elif job.state is JobState.RUNNING and job.wish is Wish.PAUSE:
                self._change(connection, job_id, wish=None)
            elif job.state not in (JobState.QUEUED, JobState.RUNNING) or job.wish is not None:
                raise _refusal(job, "resumed")
            return self.get(job_id)

    def cancel(self, job_id: str) -> JobRecord:
        """End a job; what it has done so far is removed.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job has ended already.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state in (JobState.QUEUED, JobState.PAUSED):
                self._change(connection, job_id, state=JobState.CANCELLED, finished_at=time.time(), **_NO_PROGRESS)
                self._drop_workspace(self.files(job_id), job)
            elif job.state is JobState.RUNNING:
                self._change(connection, job_id, wish=Wish.CANCEL)
            elif job.state is not JobState.CANCELLED:
                raise _refusal(job, "cancelled")
            return self.get(job_id)

    def retry(self, job_id: str, *, allow_damaged: bool = False) -> JobRecord:
        """Queue a failed or cancelled job again; a failed one goes on where it was.

        `allow_damaged` enhances a damaged source as far as it can be read, from then on.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: The job has not ended, or ended well.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state not in (JobState.FAILED, JobState.CANCELLED):
                raise _refusal(job, "tried again")
            options = replace(job.options, allow_damaged=True) if allow_damaged else job.options
            self._change(
                connection,
                job_id,
                state=JobState.QUEUED,
                options=options_to_json(options),
                position=self._end(connection),
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
            self._change(connection, job_id, priority=priority)
            return self.get(job_id)

    def move(self, job_id: str, *, before: str | None) -> JobRecord:
        """Put a queued job right before another one, whose priority it takes; or, with None, at the very end.

        Raises:
            JobNotFoundError: One of the jobs does not exist.
            JobStateError: One of them is not queued.
        """
        with self._database.transaction() as connection:
            for job in (self.get(job_id), *([self.get(before)] if before is not None else [])):
                if job.state is not JobState.QUEUED:
                    raise JobStateError(f"{job.title!r} is {job.state}; only queued jobs have an order")
            if before != job_id:
                priority, position = self._place(connection, job_id, before)
                self._change(connection, job_id, priority=priority, position=position)
            return self.get(job_id)

    def change_options(self, job_id: str, options: EnhanceOptions) -> JobRecord:
        """Change what a job that waits is asked to do; nothing of it may have been done.

        Raises:
            JobNotFoundError: No job has that id.
            JobStateError: It has started, or has ended.
        """
        with self._database.transaction() as connection:
            job = self.get(job_id)
            if job.state not in (JobState.QUEUED, JobState.PAUSED) or job.frames_done:
                raise JobStateError(
                    f"{job.title!r} has started, so it cannot be changed; let it end, or cancel it, and enhance the "
                    "file again with other settings"
                )
            # What was begun with other options would be thrown away anyway.
            self._drop_workspace(self.files(job_id))
            self._change(connection, job_id, options=options_to_json(options), estimate=None)
            return self.get(job_id)

    def remove_leftovers(self) -> None:
        """Remove files of jobs that were removed or cancelled just before the machine went down."""
        for job_id in self.removed_since(0):
            self.files(job_id).remove()
        for path in (self.data / "jobs").glob(f"*/{ASIDE}*"):
            shutil.rmtree(path, ignore_errors=True)

    def hold(self, *, on: bool) -> None:
        """Let no further job start until it is taken back; a job that runs is not stopped."""
        with self._database.transaction() as connection:
            if on:
                connection.execute("INSERT OR IGNORE INTO queue_hold (one, since) VALUES (1, ?)", (time.time(),))
            else:
                connection.execute("DELETE FROM queue_hold")
            # So that whoever follows the queue looks again.
            self._next_revision(connection)

    def set_estimate(self, job_id: str, estimate: str) -> JobRecord:
        """Note what the job will probably take, as JSON.

        Raises:
            JobNotFoundError: No job has that id.
        """
        with self._database.transaction() as connection:
            self.get(job_id)
            self._change(connection, job_id, estimate=estimate)
            return self.get(job_id)

    def _end(self, connection: sqlite3.Connection) -> float:
        last = connection.execute("SELECT MAX(position) FROM jobs WHERE state = 'queued'").fetchone()[0]
        return float(last or 0.0) + 1.0

    def _place(self, connection: sqlite3.Connection, job_id: str, before: str | None) -> tuple[int, float]:
        """Return priority and position of a place in the queue."""
        turns = connection.execute(
            "SELECT id, priority, position FROM jobs WHERE state = 'queued' ORDER BY priority DESC, position"
        ).fetchall()
        others = [row for row in turns if row["id"] != job_id]
        if before is None:
            return (others[-1]["priority"] if others else 0), self._end(connection)
        index = next(number for number, row in enumerate(others) if row["id"] == before)
        following = others[index]
        same = index > 0 and others[index - 1]["priority"] == following["priority"]
        lower = others[index - 1]["position"] if same else following["position"] - 1.0
        if following["position"] - lower < _LEAST_GAP:
            for number, row in enumerate(others):
                self._change(connection, row["id"], position=float(number + 1))
            return self._place(connection, job_id, before)
        return following["priority"], (lower + following["position"]) / 2


_NO_PROGRESS: Final = {"stage": "", "frames_done": 0, "fps": 0.0, "eta_s": None}


def _refusal(job: JobRecord, what: str) -> JobStateError:
    words = {
        JobState.DONE: "is done",
        JobState.FAILED: "has failed",
        JobState.CANCELLED: "was cancelled",
        JobState.QUEUED: "is queued",
        JobState.PAUSED: "is paused",
        JobState.RUNNING: "is being cancelled" if job.wish is Wish.CANCEL else "is running",
    }
    can_retry = job.state in (JobState.FAILED, JobState.CANCELLED) and what != "tried again"
    advice = "; retry it instead" if can_retry else ""
    return JobStateError(f"{job.title!r} {words[job.state]}, so it cannot be {what}{advice}")
