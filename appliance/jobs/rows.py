"""A job as a row of the database, and back."""

import os
import sqlite3
from functools import lru_cache
from pathlib import Path
from typing import Any

from appliance.jobs.records import JobRecord, JobState, Origin, Wish, options_from_json
from runtime.options import EnhanceOptions

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
