"""Worker side of the queue: claim a job, report progress, release it; each in one transaction."""

import sqlite3
import time
from pathlib import Path
from typing import Final

from appliance.jobs.errors import JobLostError
from appliance.jobs.job import (
    COLUMNS,
    ExitCause,
    JobBounds,
    JobCommand,
    JobRecord,
    JobState,
    Origin,
    path_column,
    read_row,
)
from appliance.jobs.job_table import JobTable, Publication
from appliance.store.database import Database
from runtime.progress import Progress

MAX_CRASHES: Final = 3
"""Crashes over a job, without progress between them, after which it fails."""
MAX_EXTERNAL_KILLS: Final = 30
"""Kills of its worker from outside, without progress between them, after which a job fails."""


class JobLease:
    """The lease of one worker on at most one job, kept in the table of jobs."""

    def __init__(self, database: Database, worker: str) -> None:
        self.worker = worker
        self._database = database
        self._table = JobTable(database)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._table.data

    @property
    def job_id(self) -> str | None:
        """The id of the job that the worker holds."""
        with self._database.read() as connection:
            row = connection.execute("SELECT id FROM jobs WHERE worker = ?", (self.worker,)).fetchone()
        return None if row is None else str(row["id"])

    def claim(self) -> JobRecord | None:
        """Claim the next job, None where nothing is queued.

        Raises:
            JobLostError: The worker holds a job already.
        """
        with self._database.read() as connection:
            # Read before writing: an idle worker must not write.
            if connection.execute(_NEXT).fetchone() is None:
                return None
        with self._database.transaction() as connection:
            held = self.job_id
            if held is not None:
                raise JobLostError(f"worker {self.worker} still holds job {held}; release it first")
            row = connection.execute(_NEXT).fetchone()
            if row is None:
                return None
            now = time.time()
            connection.execute(
                "UPDATE jobs SET state = 'running', worker = ?, wish = NULL, attempts = attempts + 1, "
                "started_at = COALESCE(started_at, ?), claimed_at = ?, finished_at = NULL, stage = 'opening', "
                "message = '', code = '', fps = 0, eta_s = NULL, revision = ? WHERE id = ?",
                (self.worker, now, now, self._table.next_revision(connection), row["id"]),
            )
            return self._table.get(row["id"])

    def bounds_of(self, job: JobRecord) -> JobBounds | None:
        """Return where a job may read and write without following links, None for one of the command line.

        A file of a watch folder may be used again by a job of the web page, and the folder may have been removed
        before the job runs.
        """
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT folders.id, folders.path, folders.destination, file.size, file.mtime_ns FROM folders "
                "LEFT JOIN watched_files AS file ON file.folder = folders.id AND file.job = ? "
                "ORDER BY folders.id = ? DESC, LENGTH(folders.path) DESC",
                (job.id, job.folder),
            ).fetchall()
        for row in rows:
            folder, destination = Path(row["path"]), Path(row["destination"])
            if job.source.is_relative_to(folder):
                is_there = job.target is not None and job.target.is_relative_to(destination)
                return JobBounds(folder, destination if is_there else None, row["size"], row["mtime_ns"])
        return None if job.origin is Origin.COMMAND else JobBounds(job.source.parent)

    def progress(self, job_id: str, progress: Progress) -> JobCommand | None:
        """Store the progress of the job, without durability.

        Returns:
            The command that someone gave the job meanwhile.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction(durable=False) as connection:
            job = self._held(job_id)
            self._table.change(
                connection,
                job_id,
                stage=progress.stage,
                frames_done=progress.frames_done,
                frames_total=progress.frames_total,
                fps=progress.fps,
                eta_s=progress.eta_s,
            )
            return job.command

    def command(self, job_id: str) -> JobCommand | None:
        """Return the command that someone gave the job.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        return self._held(job_id).command

    def pending_command(self) -> tuple[str, JobCommand] | None:
        """Return the held job and the command that it was given, None where there is none."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT id, wish FROM jobs WHERE worker = ? AND wish IS NOT NULL", (self.worker,)
            ).fetchone()
        return None if row is None else (str(row["id"]), JobCommand(row["wish"]))

    def publication(self, job_id: str) -> Publication | None:
        """Return the recorded publication of a job, None before that step."""
        return self._table.publication(job_id)

    def set_publication(self, job_id: str, publication: Publication) -> None:
        """Record where a finished file is about to get its name.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction() as connection:
            self._held(job_id)
            self._table.set_publication(connection, job_id, publication)

    def finish(self, job_id: str, result: Path, message: str = "", *, last: Progress | None = None) -> JobRecord:
        """Mark a job as done, its result in place; `last` is the latest progress.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction() as connection:
            job = self._held(job_id)
            self._add_work_time(connection, job_id)
            total = job.frames_total if last is None else last.frames_total
            self._table.change(
                connection,
                job_id,
                **_RELEASED,
                state=JobState.DONE,
                finished_at=time.time(),
                result=path_column(result),
                message=message,
                frames_total=total,
                frames_done=total or (job if last is None else last).frames_done,
                stage="done",
            )
            return self._table.get(job_id)

    def fail(self, job_id: str, message: str, *, code: str = "unexpected") -> JobRecord:
        """Mark a job as failed; its progress is kept for a retry.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction() as connection:
            self._held(job_id)
            self._add_work_time(connection, job_id)
            failed = {"state": JobState.FAILED, "finished_at": time.time(), "message": message, "code": code}
            self._table.change(connection, job_id, **_RELEASED, **failed)
            return self._table.get(job_id)

    def stop(self, job_id: str, command: JobCommand) -> JobRecord:
        """Mark a job as paused or cancelled, once its work has ended.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction() as connection:
            job = self._held(job_id)
            self._add_work_time(connection, job_id)
            if command is JobCommand.PAUSE:
                state = {"state": JobState.PAUSED, "attempts": job.attempts - 1}
            else:
                state = {"state": JobState.CANCELLED, "finished_at": time.time()}
            self._table.change(connection, job_id, **_RELEASED, **state)
            return self._table.get(job_id)

    def release(
        self,
        *,
        cause: ExitCause = ExitCause.EXTERNAL,
        reason: str = "",
        max_crashes: int = MAX_CRASHES,
        max_external_kills: int = MAX_EXTERNAL_KILLS,
    ) -> JobRecord | None:
        """Return the held job to the queue; the worker must have ended.

        A job over which the worker ended too often, without one more finished segment between, fails.

        Args:
            cause: Why the worker ended.
            reason: The cause in words, for the message of a job that fails.
            max_crashes: Crashes after which the job fails.
            max_external_kills: Kills from outside after which the job fails.

        Returns:
            The job, None where the worker held none.
        """
        # Counted before the transaction: the worker has ended, so nothing is added.
        held_id = self.job_id
        segments = 0 if held_id is None else self._table.files(held_id).count_segments()
        with self._database.transaction() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS}, faults, stops, segments, publication FROM jobs WHERE worker = ? AND id = ?",
                (self.worker, held_id),
            ).fetchone()
            if row is None:
                return None
            held = {name: row[name] for name in ("faults", "stops", "segments", "publication")}
            job = read_row({name: row[name] for name in row.keys() if name not in held})  # noqa: SIM118
            has_progress = segments > held["segments"]
            crashes = (0 if has_progress else held["faults"]) + (cause is ExitCause.JOB)
            kills = (0 if has_progress else held["stops"]) + (cause is ExitCause.EXTERNAL)
            self._add_work_time(connection, job.id)
            changes: dict[str, object] = {**_RELEASED, "faults": crashes, "stops": kills, "segments": segments}
            is_unpublished = held["publication"] is None
            if job.command is JobCommand.CANCEL and is_unpublished:
                self._table.discard_workspace(job.id, unfinished_of=job)
                changes |= {"state": JobState.CANCELLED, "finished_at": time.time()}
            elif crashes < max_crashes and kills < max_external_kills:
                is_paused = job.command is JobCommand.PAUSE and is_unpublished
                attempts = job.attempts - (cause is ExitCause.REQUESTED)
                changes |= {"state": JobState.PAUSED if is_paused else JobState.QUEUED, "attempts": attempts}
            elif self._has_result(job.id):
                message = "the result is complete, but its preview videos could not be created"
                changes |= {"state": JobState.DONE, "finished_at": time.time(), "message": message}
            else:
                message = _describe_failure(crashes, kills, reason, has_crashed=crashes >= max_crashes)
                failed = {"state": JobState.FAILED, "finished_at": time.time(), "code": "crashed"}
                changes |= {**failed, "message": message}
            self._table.change(connection, job.id, **changes)
            return self._table.get(job.id)

    def heartbeat(self, pid: int) -> None:
        """Count the worker's heartbeat up, without durability."""
        with self._database.transaction(durable=False) as connection:
            connection.execute(
                "INSERT INTO workers (name, pid, beat) VALUES (?, ?, 1) "
                "ON CONFLICT (name) DO UPDATE SET pid = excluded.pid, beat = beat + 1",
                (self.worker, pid),
            )

    def heartbeats(self) -> int:
        """Return the number of the worker's heartbeats so far."""
        with self._database.read() as connection:
            row = connection.execute("SELECT beat FROM workers WHERE name = ?", (self.worker,)).fetchone()
        return 0 if row is None else int(row["beat"])

    def _add_work_time(self, connection: sqlite3.Connection, job_id: str) -> None:
        """Add the time since the worker claimed the job, which it is about to release."""
        # The clock may have been set back meanwhile.
        connection.execute(
            "UPDATE jobs SET worked_s = worked_s + MAX(0, ? - COALESCE(claimed_at, ?)), claimed_at = NULL WHERE id = ?",
            (now := time.time(), now, job_id),
        )

    def _has_result(self, job_id: str) -> bool:
        publication = self._table.publication(job_id)
        return publication is not None and (publication.is_done or publication.is_there())

    def _held(self, job_id: str) -> JobRecord:
        with self._database.read() as connection:
            row = connection.execute("SELECT worker FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or row["worker"] != self.worker:
            raise JobLostError(f"worker {self.worker} no longer holds job {job_id}")
        return self._table.get(job_id)


_NEXT: Final = (
    "SELECT id FROM jobs WHERE state = 'queued' AND NOT EXISTS (SELECT 1 FROM queue_hold) "
    "ORDER BY priority DESC, position LIMIT 1"
)

_RELEASED: Final = {"worker": None, "wish": None, "fps": 0.0, "eta_s": None}


def _describe_failure(crashes: int, kills: int, reason: str, *, has_crashed: bool) -> str:
    if has_crashed:
        times = "once" if crashes == 1 else f"{crashes} times"
        return f"the worker ended {times} over this file: {reason or 'it crashed'}; see the job's log"
    return (
        f"the worker was killed {kills} times from outside before this job made progress; "
        "check the server, then retry the job"
    )
