"""A job as a value: what is asked for, what is known of it, and its options as text."""

import json
import os
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from runtime.errors import OptionError
from runtime.options import EnhanceOptions


class JobState(StrEnum):
    """Where a job stands; the last three are final until someone retries it."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class Origin(StrEnum):
    """Who brought a job."""

    UPLOAD = "upload"
    WATCH = "watch"
    COMMAND = "command"


class Wish(StrEnum):
    """What a running job shall do at the next opportunity."""

    PAUSE = "pause"
    CANCEL = "cancel"


class Blame(StrEnum):
    """Why a worker let go of its job, which decides how often the job is tried again."""

    NOBODY = "nobody"
    """The worker was asked to stop; the try does not count."""
    UNKNOWN = "unknown"
    """Someone killed the worker, or the power failed."""
    JOB = "job"
    """The worker ran out of memory, crashed or hung over it."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be added.

    `target` None puts the result under `results/<id>/`. A higher `priority` runs earlier. `preview_of` names what is
    previewed: such a job enhances three seconds from the middle. `folder` is the watch folder's id.
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
    """A job as the queue knows it.

    Times are seconds since 1970 UTC, for reading only: nothing is decided by them. `wish` is what a running job was
    asked and has not done yet. `attempts` counts the tries that began; `message` is for the user, `code` names why
    a job failed. `estimate` is JSON. `folder_name` is the last part of
    the watch folder's path, while there is that folder.
    `started_at` is when the current try began; `worked_s` is how long workers held the job since then, pauses left out,
    up to when the last of them let go.
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
    wish: Wish | None
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
        """Return whether the job has ended, well or not."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True)
class JobBounds:
    """Below which folders a job reads its source and writes its result; and the source as it was looked into."""

    folder: Path
    destination: Path | None = None
    size: int | None = None
    mtime_ns: int | None = None


def options_to_json(options: EnhanceOptions) -> str:
    """Write options as JSON; fractions and paths become text."""
    from pydantic import TypeAdapter

    return TypeAdapter(EnhanceOptions).dump_json(options).decode()


def options_from_json(text: str) -> EnhanceOptions:
    """Read options from JSON; earlier versions called `allow_damaged` "conceal".

    Raises:
        OptionError: The text is no JSON, or holds fields or values that are not known.
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


def read_row(row: sqlite3.Row | dict[str, Any]) -> JobRecord:
    """Make the value of a row that has the `COLUMNS`."""
    fields = dict(row)
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
            "wish": None if fields["wish"] is None else Wish(fields["wish"]),
        }
    )


def path_of(column: str | bytes) -> Path:
    """Read a path."""
    return Path(os.fsdecode(column))


def path_column(path: Path | None) -> str | bytes | None:
    """Write a path: text, or its bytes where a file's name is not UTF-8, which SQLite's text must be."""
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
    """Read options; most jobs of a list share a few."""
    return options_from_json(text)
