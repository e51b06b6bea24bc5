"""The table of jobs: rows as values, changes with a revision number, and the queries of lists."""

import json
import os
import shutil
import sqlite3
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

from appliance.jobs.errors import JobNotFoundError
from appliance.jobs.job import COLUMNS, JobRecord, JobState, path_column, path_of, read_row
from appliance.jobs.job_files import JobFiles, remove_unfinished
from appliance.store.database import Database

_ROUNDED_NS: Final = 2_000_000_000
_MIN_GAP: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Publication:
    """A result that is about to get its name, recorded before the first step so that it happens once.

    `size_bytes` and `mtime_ns` are the finished file's: a file at `path` that has them is this result.
    """

    path: Path
    size_bytes: int
    mtime_ns: int
    is_done: bool = False

    def fits(self, facts: os.stat_result) -> bool:
        """Return True if a file may be this result; network shares and memory sticks round times to 2 s."""
        return facts.st_size == self.size_bytes and abs(facts.st_mtime_ns - self.mtime_ns) <= _ROUNDED_NS

    def is_there(self) -> bool:
        """Return True if the recorded file has its name."""
        try:
            facts = self.path.stat()
        except OSError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


class JobTable:
    """Reads and changes rows; the queue and the leases of workers share it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.database.path.parent

    def files(self, job_id: str) -> JobFiles:
        """Return the paths of a job's files."""
        return JobFiles(self.data, job_id)

    def get(self, job_id: str) -> JobRecord:
        """Return a job.

        Raises:
            JobNotFoundError: No job has that id.
        """
        with self.database.read() as connection:
            row = connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise JobNotFoundError(f"there is no job {job_id}; it may have been removed")
        return read_row(row)

    def change(self, connection: sqlite3.Connection, job_id: str, **columns: Any) -> None:
        """Set columns of a job, inside a transaction."""
        names = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(
            f"UPDATE jobs SET {names}, revision = ? WHERE id = ?",
            (*columns.values(), self.next_revision(connection), job_id),
        )

    def next_revision(self, connection: sqlite3.Connection) -> int:
        """Return the number of the next change, inside a transaction."""
        row = connection.execute("UPDATE job_revision SET revision = revision + 1 RETURNING revision").fetchone()
        return int(row[0])

    def last_position(self, connection: sqlite3.Connection) -> float:
        """Return the position of the last queued job, 0 where none is queued."""
        return float(connection.execute("SELECT MAX(position) FROM jobs WHERE state = 'queued'").fetchone()[0] or 0.0)

    def find_position(self, connection: sqlite3.Connection, job_id: str, before: str | None) -> tuple[int, float]:
        """Return priority and position right before another queued job; with None those of the end of the queue."""
        rows = connection.execute(
            "SELECT id, priority, position FROM jobs WHERE state = 'queued' ORDER BY priority DESC, position"
        ).fetchall()
        others = [row for row in rows if row["id"] != job_id]
        if before is None:
            return (others[-1]["priority"] if others else 0), self.last_position(connection) + 1.0
        index = next(number for number, row in enumerate(others) if row["id"] == before)
        following = others[index]
        same = index > 0 and others[index - 1]["priority"] == following["priority"]
        lower = others[index - 1]["position"] if same else following["position"] - 1.0
        if following["position"] - lower < _MIN_GAP:
            for number, row in enumerate(others):
                self.change(connection, row["id"], position=float(number + 1))
            return self.find_position(connection, job_id, before)
        return following["priority"], (lower + following["position"]) / 2

    def publication(self, job_id: str) -> Publication | None:
        """Return the recorded publication of a job, None before that step."""
        with self.database.read() as connection:
            row = connection.execute("SELECT result, publication FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or row["publication"] is None:
            return None
        return Publication(**{**json.loads(row["publication"]), "path": path_of(row["result"])})

    def set_publication(self, connection: sqlite3.Connection, job_id: str, publication: Publication) -> None:
        """Record a publication, inside a transaction."""
        text = json.dumps({**asdict(publication), "path": None})
        self.change(connection, job_id, result=path_column(publication.path), publication=text)

    def discard_workspace(self, job_id: str, *, unfinished_of: JobRecord | None = None) -> None:
        """Remove the workspace of a job after the transaction; with a record, its unfinished result as well."""
        files = self.files(job_id)
        aside = files.set_aside_workspace()
        if aside is not None:
            self.database.after_commit(lambda: shutil.rmtree(aside, ignore_errors=True))
        if unfinished_of is not None:
            self.database.after_commit(lambda: remove_unfinished(unfinished_of, files))


class JobFilter(TypedDict, total=False):
    """Conditions on jobs: `text` in the title, a user, a watch folder, a preset, when it was added, no previews."""

    text: str
    owner: str | None
    folder: str | None
    preset: str | None
    since: float | None
    until: float | None
    previews: bool


COUNT_JOBS = "SELECT state, COUNT(*) FROM jobs GROUP BY state"
COUNT_OWN_JOBS = "SELECT state, COUNT(*) FROM jobs WHERE owner = ? GROUP BY state"
CHANGED_JOBS = f"SELECT {COLUMNS} FROM jobs WHERE revision > ? ORDER BY revision"

_BY_TURN = "priority DESC, position"
_BY_AGE = "created_at DESC, id"


def write_conditions(wanted: JobFilter) -> tuple[list[str], list[Any]]:
    """Return the SQL conditions of a filter, and their values."""
    conditions: list[str] = []
    values: list[Any] = []
    parts = (
        ("owner = ?", wanted.get("owner")),
        ("folder = ?", wanted.get("folder")),
        ("json_extract(options, '$.preset') = ?", wanted.get("preset")),
        ("created_at >= ?", wanted.get("since")),
        ("created_at < ?", wanted.get("until")),
    )
    for condition, value in parts:
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if not wanted.get("previews", True):
        conditions.append("preview_of IS NULL")
    text = wanted.get("text", "")
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
    """Return the query of `JobQueue.list`, and its values."""
    conditions, values = wanted
    if states is None:
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        return f"SELECT {COLUMNS} FROM jobs {where}ORDER BY {_BY_AGE} LIMIT ? OFFSET ?", [*values, limit, offset]
    chosen = sorted(set(states))
    if not chosen:
        return f"SELECT {COLUMNS} FROM jobs WHERE FALSE", []
    order = _BY_TURN if chosen == [JobState.QUEUED] else _BY_AGE
    # Each state alone is read in the order of its index; together they are at most states x (limit + offset) rows
    # to sort, however many jobs there are.
    part = f"SELECT {COLUMNS} FROM jobs WHERE {' AND '.join(['state = ?', *conditions])} ORDER BY {order} LIMIT ?"
    if len(chosen) == 1:
        return f"{part} OFFSET ?", [chosen[0], *values, limit, offset]
    parts = " UNION ALL ".join(f"SELECT * FROM ({part})" for _ in chosen)
    everything: list[Any] = []
    for state in chosen:
        everything += [state, *values, limit + offset]
    return f"{parts} ORDER BY {order} LIMIT ? OFFSET ?", [*everything, limit, offset]
