"""A job as a value: the request, the record in the queue, and options as JSON."""

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import OptionError
from runtime.options import EnhanceOptions

if TYPE_CHECKING:
    import sqlite3


class JobState(StrEnum):
    """State of a job; the last three are final until someone retries it."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class Origin(StrEnum):
    """Where a job came from."""

    UPLOAD = "upload"
    WATCH = "watch"
    COMMAND = "command"


class JobCommand(StrEnum):
    """Command to a running job, which it follows at the next opportunity."""

    PAUSE = "pause"
    CANCEL = "cancel"


class ExitCause(StrEnum):
    """Why a worker ended or released its job, which decides how often the job is tried again."""

    REQUESTED = "requested"
    """The worker was asked to stop; the attempt does not count."""
    EXTERNAL = "external"
    """Someone killed the worker, or the power failed."""
    JOB = "job"
    """The worker ran out of memory, crashed or hung over the job."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be added.

    Without a `target` the result is written below `results/<id>/`. A higher `priority` runs earlier. A job with
    `preview_of` enhances three seconds from the middle. `folder` is the watch folder's id.
    """

    source: Path
    title: str
    options: EnhanceOptions
    target: Path | None = None
    owner: str | None = None
    origin: Origin = Origin.COMMAND
    priority: int = 0
    preview_of: str | None = None
    folder: str | None = None
    source_digest: str | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A row of the table of jobs.

    Times are seconds since 1970 UTC, for display only: nothing is decided by them. `command` was given to a running
    job, which has not followed it yet. `attempts` counts started attempts; `message` is for the user, `code` is the
    machine-readable reason of a failure. `estimate` is JSON. `folder_name` is the last part of the watch folder's path.
    `started_at` is the start of the current attempts; `worked_s` is the time that workers held the job since then,
    up to its latest release.
    """

    id: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    title: str
    source: Path
    target: Path | None
    result: Path | None
    options: EnhanceOptions
    owner: str | None
    origin: Origin
    state: JobState
    command: JobCommand | None
    priority: int
    position: float
    attempts: int
    stage: str
    frames_done: int
    frames_total: int | None
    fps: float
    eta_s: float | None
    message: str
    preview_of: str | None
    folder: str | None
    source_digest: str | None
    revision: int
    estimate: str | None
    worked_s: float
    code: str
    folder_name: str | None = None

    @property
    def is_finished(self) -> bool:
        """Return True if the job has ended, successfully or not."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True)
class JobBounds:
    """The folders below which a job reads and writes, and size and time of the validated source."""

    folder: Path
    destination: Path | None = None
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Settings of a worker.

    `threads`, `backend` and `precision` are defaults of jobs; `reserve_bytes` stay free on the data directory's disk;
    `segment_frames` are the least and most frames of a segment, None for the standard ones. `memory_bytes` limits the
    memory of the process.
    """

    threads: int | None = None
    reserve_bytes: int = 0
    segment_frames: tuple[int, int] | None = None
    backend: str = "auto"
    precision: str = "auto"
    memory_bytes: int | None = None


def options_to_json(options: EnhanceOptions) -> str:
    """Write options as JSON; fractions and paths become text."""
    from pydantic import TypeAdapter

    return TypeAdapter(EnhanceOptions).dump_json(options).decode()


def options_from_json(text: str) -> EnhanceOptions:
    """Read options from JSON; earlier versions called `allow_damaged` "conceal".

    Raises:
        OptionError: The text is not JSON, or has unknown fields or values.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        values = json.loads(text)
        if isinstance(values, dict) and "conceal" in values:
            values["allow_damaged"] = values.pop("conceal")
        return TypeAdapter(EnhanceOptions).validate_json(json.dumps(values), extra="forbid")
    except (ValidationError, ValueError) as error:
        raise OptionError(f"the job's options cannot be read: {error}") from error


COLUMNS = (
    "id, created_at, started_at, finished_at, title, source, target, result, options, owner, origin, state, wish, "
    "priority, position, attempts, stage, frames_done, frames_total, fps, eta_s, message, preview_of, folder, "
    "source_digest, revision, estimate, worked_s, code, "
    "(SELECT path FROM folders WHERE folders.id = jobs.folder) AS folder_name"
)


def read_row(row: "sqlite3.Row | dict[str, Any]") -> JobRecord:
    """Return the record of a row that has the `COLUMNS`."""
    fields = dict(row)
    command = fields.pop("wish")
    return JobRecord(
        **{
            **fields,
            "source": path_of(fields["source"]),
            "target": None if fields["target"] is None else path_of(fields["target"]),
            "result": None if fields["result"] is None else path_of(fields["result"]),
            "folder_name": None if fields["folder_name"] is None else Path(fields["folder_name"]).name,
            "options": _options(fields["options"]),
            "origin": Origin(fields["origin"]),
            "state": JobState(fields["state"]),
            "command": None if command is None else JobCommand(command),
        }
    )


def path_of(column: str | bytes) -> Path:
    """Read a path from a column."""
    return Path(os.fsdecode(column))


def path_column(path: Path | None) -> str | bytes | None:
    """Return a path as text, or as bytes where it is not UTF-8, which SQLite requires of text."""
    if path is None:
        return None
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return text


@lru_cache(maxsize=64)
def _options(text: str) -> EnhanceOptions:
    """Read options from JSON, cached: most jobs of a list share a few."""
    return options_from_json(text)
