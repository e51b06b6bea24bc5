"""What a worker does with the queue: claim a job, tell of it, and let it go, each in one transaction."""

import json
import os
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from appliance.jobs.errors import JobLostError
from appliance.jobs.job import (
    COLUMNS,
    Blame,
    JobBounds,
    JobRecord,
    JobState,
    Origin,
    Wish,
    path_column,
    path_of,
    read_row,
)
from appliance.jobs.job_files import JobFiles
from appliance.jobs.job_table import JobTable
from runtime.options import Progress

_ROUNDED_NS: Final = 2_000_000_000
MOST_FAULTS: Final = 3
"""So often may a job bring its worker down without getting any further."""
MOST_STOPS: Final = 30
"""So often may its worker be killed from outside, again without getting any further."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A result on its way to its name, noted before the first step so that it happens once.

    `size_bytes` and `mtime_ns` are the finished file's: what has them at `path` is this result.
    """

    path: Path
    size_bytes: int
    mtime_ns: int
    is_done: bool = False

    def fits(self, facts: os.stat_result) -> bool:
        """Return True if a file may be this result; network shares and memory sticks round times to 2 s."""
        return facts.st_size == self.size_bytes and abs(facts.st_mtime_ns - self.mtime_ns) <= _ROUNDED_NS

    def is_there(self) -> bool:
        """Return whether the noted file has its name."""
        try:
            facts = self.path.stat()
        except OSError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


class Holding(JobTable):
    """The worker's half of the queue."""

    def bounds_of(self, job: JobRecord) -> JobBounds | None:
        """Return where a job may read and write without following links, None for one that the command line made.

        A file of a watch folder may be used again by a job of the page, and the folder may be watched no more when
        the job runs.
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

    def claim(self, worker: str) -> JobRecord | None:
        """Take the job whose turn it is, None where nothing is queued.

        Raises:
            JobLostError: The worker holds a job already.
        """
        with self._database.read() as connection:
            # A look first: an idle worker must not write.
            if connection.execute(_NEXT).fetchone() is None:
                return None
        with self._database.transaction() as connection:
            held = connection.execute("SELECT id FROM jobs WHERE worker = ?", (worker,)).fetchone()
            if held is not None:
                raise JobLostError(f"worker {worker} still holds job {held['id']}; release it first")
            row = connection.execute(_NEXT).fetchone()
            if row is None:
                return None
            now = time.time()
            connection.execute(
                "UPDATE jobs SET state = 'running', worker = ?, wish = NULL, attempts = attempts + 1, "
                "started_at = COALESCE(started_at, ?), claimed_at = ?, finished_at = NULL, stage = 'opening', "
                "message = '', code = '', fps = 0, eta_s = NULL, revision = ? WHERE id = ?",
                (worker, now, now, self._next_revision(connection), row["id"]),
            )
            return self.get(row["id"])

    def progress(self, job_id: str, worker: str, progress: Progress) -> Wish | None:
        """Tell how far a job is.

        Returns:
            What someone wishes of the job meanwhile.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction(lasting=False) as connection:
            job = self._held(job_id, worker)
            self._change(
                connection,
                job_id,
                stage=progress.stage,
                frames_done=progress.frames_done,
                frames_total=progress.frames_total,
                fps=progress.fps,
                eta_s=progress.eta_s,
            )
            return job.wish

    def wish(self, job_id: str, worker: str) -> Wish | None:
        """Return what someone wishes of a job.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        return self._held(job_id, worker).wish

    def unheeded(self, worker: str) -> tuple[str, Wish] | None:
        """Return the job that a worker holds and what is wished of it; None where nothing is."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT id, wish FROM jobs WHERE worker = ? AND wish IS NOT NULL", (worker,)
            ).fetchone()
        return None if row is None else (str(row["id"]), Wish(row["wish"]))

    def holders(self) -> set[str]:
        """Return the workers that hold a job."""
        with self._database.read() as connection:
            return {str(row[0]) for row in connection.execute("SELECT worker FROM jobs WHERE worker IS NOT NULL")}

    def held_by(self, worker: str) -> str | None:
        """Return the id of the job that a worker holds."""
        with self._database.read() as connection:
            row = connection.execute("SELECT id FROM jobs WHERE worker = ?", (worker,)).fetchone()
        return None if row is None else str(row["id"])

    def note_publication(self, job_id: str, worker: str, publication: Publication) -> None:
        """Note where a finished file will get its name, before it does.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        text = json.dumps({**asdict(publication), "path": None})
        with self._database.transaction() as connection:
            self._held(job_id, worker)
            self._change(connection, job_id, result=path_column(publication.path), publication=text)

    def publication(self, job_id: str) -> Publication | None:
        """Return what `note_publication` noted, None where the job has not come that far."""
        with self._database.read() as connection:
            row = connection.execute("SELECT result, publication FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or row["publication"] is None:
            return None
        return Publication(**{**json.loads(row["publication"]), "path": path_of(row["result"])})

    def finish(
        self, job_id: str, worker: str, result: Path, message: str = "", *, last: Progress | None = None
    ) -> JobRecord:
        """Say that a job is done and its result in place; `last` is how far it was when that was last looked at.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction() as connection:
            job = self._held(job_id, worker)
            self._count_work(connection, job_id)
            total = job.frames_total if last is None else last.frames_total
            self._change(
                connection,
                job_id,
                **_LET_GO,
                state=JobState.DONE,
                finished_at=time.time(),
                result=path_column(result),
                message=message,
                frames_total=total,
                frames_done=total or (job if last is None else last).frames_done,
                stage="done",
            )
            return self.get(job_id)

    def fail(self, job_id: str, worker: str, message: str, *, code: str = "unexpected") -> JobRecord:
        """Say that a job cannot be done; what it has done so far stays for a retry.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction() as connection:
            self._held(job_id, worker)
            self._count_work(connection, job_id)
            self._change(
                connection,
                job_id,
                **_LET_GO,
                state=JobState.FAILED,
                finished_at=time.time(),
                message=message,
                code=code,
            )
            return self.get(job_id)

    def stop(self, job_id: str, worker: str, wish: Wish) -> JobRecord:
        """Do what was wished of a running job, once its work has ended: hold it back, or end it.

        Raises:
            JobLostError: The worker no longer holds the job.
        """
        with self._database.transaction() as connection:
            job = self._held(job_id, worker)
            self._count_work(connection, job_id)
            if wish is Wish.PAUSE:
                self._change(connection, job_id, **_LET_GO, state=JobState.PAUSED, attempts=job.attempts - 1)
            else:
                self._change(connection, job_id, **_LET_GO, state=JobState.CANCELLED, finished_at=time.time())
            return self.get(job_id)

    def release(
        self,
        worker: str,
        *,
        blame: Blame = Blame.UNKNOWN,
        reason: str = "",
        most_faults: int = MOST_FAULTS,
        most_stops: int = MOST_STOPS,
    ) -> JobRecord | None:
        """Return the job that a worker held back to the queue; the worker must have ended.

        A job that brought down its worker too often, without finishing one more segment between, fails.

        Args:
            worker: The worker's name.
            blame: Why it let go.
            reason: Plain words for the message of a job that fails for it.
            most_faults: How often that may be the job's fault.
            most_stops: How often the worker may be killed by someone unknown.

        Returns:
            The job as it is now, None where the worker held none.
        """
        # Counted before the transaction: the worker has ended, so nothing is added.
        held_id = self.held_by(worker)
        segments = 0 if held_id is None else JobFiles(self._database.path.parent, held_id).count_segments()
        with self._database.transaction() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS}, faults, stops, segments, publication FROM jobs WHERE worker = ? AND id = ?",
                (worker, held_id),
            ).fetchone()
            if row is None:
                return None
            held = {name: row[name] for name in ("faults", "stops", "segments", "publication")}
            job = read_row({name: row[name] for name in row.keys() if name not in held})  # noqa: SIM118
            files = JobFiles(self._database.path.parent, job.id)
            got_further = segments > held["segments"]
            faults = (0 if got_further else held["faults"]) + (blame is Blame.JOB)
            stops = (0 if got_further else held["stops"]) + (blame is Blame.UNKNOWN)
            self._count_work(connection, job.id)
            self._change(connection, job.id, **_LET_GO, faults=faults, stops=stops, segments=segments)
            if job.wish is Wish.CANCEL and held["publication"] is None:
                self._drop_workspace(files, job)
                self._change(connection, job.id, state=JobState.CANCELLED, finished_at=time.time())
            elif (faults >= most_faults or stops >= most_stops) and self._has_result(job.id):
                message = "the result is complete, but the films to compare could not be made"
                self._change(connection, job.id, state=JobState.DONE, finished_at=time.time(), message=message)
            elif faults >= most_faults or stops >= most_stops:
                message = _give_up(faults, stops, reason, by_fault=faults >= most_faults)
                failed = {"state": JobState.FAILED, "finished_at": time.time(), "code": "crashed"}
                self._change(connection, job.id, **failed, message=message)
            else:
                holds_back = job.wish is Wish.PAUSE and held["publication"] is None
                state = JobState.PAUSED if holds_back else JobState.QUEUED
                self._change(connection, job.id, state=state, attempts=job.attempts - (blame is Blame.NOBODY))
            return self.get(job.id)

    def beat(self, worker: str, pid: int) -> None:
        """Count a worker's heartbeat up."""
        with self._database.transaction(lasting=False) as connection:
            connection.execute(
                "INSERT INTO workers (name, pid, beat) VALUES (?, ?, 1) "
                "ON CONFLICT (name) DO UPDATE SET pid = excluded.pid, beat = beat + 1",
                (worker, pid),
            )

    def beats(self, worker: str) -> int:
        """Return a worker's heartbeats so far; it says nothing about when they were."""
        with self._database.read() as connection:
            row = connection.execute("SELECT beat FROM workers WHERE name = ?", (worker,)).fetchone()
        return 0 if row is None else int(row["beat"])

    def _count_work(self, connection: sqlite3.Connection, job_id: str) -> None:
        """Add the time since the worker took the job, which it is about to let go."""
        # The clock may have been set back meanwhile.
        connection.execute(
            "UPDATE jobs SET worked_s = worked_s + MAX(0, ? - COALESCE(claimed_at, ?)), claimed_at = NULL WHERE id = ?",
            (now := time.time(), now, job_id),
        )

    def _has_result(self, job_id: str) -> bool:
        publication = self.publication(job_id)
        return publication is not None and (publication.is_done or publication.is_there())

    def _held(self, job_id: str, worker: str) -> JobRecord:
        with self._database.read() as connection:
            row = connection.execute("SELECT worker FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or row["worker"] != worker:
            raise JobLostError(f"worker {worker} no longer holds job {job_id}")
        return self.get(job_id)


_NEXT: Final = (
    "SELECT id FROM jobs WHERE state = 'queued' AND NOT EXISTS (SELECT 1 FROM queue_hold) "
    "ORDER BY priority DESC, position LIMIT 1"
)

_LET_GO: Final = {"worker": None, "wish": None, "fps": 0.0, "eta_s": None}


def _give_up(faults: int, stops: int, reason: str, *, by_fault: bool) -> str:
    if by_fault:
        times = "once" if faults == 1 else f"{faults} times"
        return f"the worker was lost {times} over this file: {reason or 'it crashed'}; the details are in the job's log"
    return (
        f"the worker was ended {stops} times from outside before this job could get any further; "
        "if the box is in order now, retry the job"
    )
