"""Writes one file from which a box can be set up again, while the server goes on working."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.box.archive import DATABASE, SETTINGS, ArchiveWriter, Manifest
from appliance.box.errors import BackupError
from appliance.store.database import Database
from appliance.store.directory import database_path
from appliance.store.errors import DatabaseFullError
from runtime.media.publish import publish_file
from runtime.version import relume_version

# What a job's page shows and is small; films are only in a full backup.
_SMALL_FILES: Final = ("report.json", "thumbnail.jpg", "log.txt")


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written or restored."""

    path: Path
    files: int
    size_bytes: int


def back_up(data: Path, target: Path, *, full: bool = False) -> Summary:
    """Write a backup; it appears under its name only when it is complete, and is readable by its owner alone.

    Args:
        data: The data directory.
        target: The file to write; an existing one is refused.
        full: Also uploads, results and films to compare.

    Raises:
        BackupError: There is no data directory, or the file cannot be written.
        StoreError: The database cannot be read.
    """
    source = database_path(data)
    if not source.is_file():
        raise BackupError(f"there is no data directory at {data}; give the one of the server with --data")
    if os.path.lexists(target):
        raise BackupError(f"{target} exists already; give another name")
    try:
        # A folder of our own: in one that others share they could have made the partial file before, to read it.
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as scratch:
            copy, partial = Path(scratch) / DATABASE, Path(scratch) / "backup.tar"
            with Database(source) as database:
                database.backup(copy)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(handle, "wb") as file:
                count = _write(ArchiveWriter(file), data, copy, full=full)
            publish_file(partial, target, overwrite=False)
    except BackupError:
        raise
    except DatabaseFullError as error:
        raise BackupError(f"the backup cannot be written to {target}: no space is left there; free some") from error
    except OSError as error:
        raise BackupError(f"the backup cannot be written to {target}: {error.strerror or error}") from error
    return Summary(target, count, target.stat().st_size)


def _write(writer: ArchiveWriter, data: Path, copy: Path, *, full: bool) -> int:
    with closing(sqlite3.connect(copy)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    writer.add(copy, DATABASE)
    if (data / SETTINGS).is_file():
        writer.add(data / SETTINGS, SETTINGS)
    for path in _files(data, full=full):
        writer.add(path, path.relative_to(data).as_posix())
    writer.finish(
        Manifest(
            relume=relume_version(),
            created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            data=str(data),
            schema_version=version,
            full=full,
            files=tuple(writer.entries),
        )
    )
    return len(writer.entries)


def _files(data: Path, *, full: bool) -> Iterator[Path]:
    """Give what belongs to a backup beside the database and the settings."""
    for folder in ("secrets", "jobs", *(("results", "uploads") if full else ())):
        for place, folders, names in os.walk(data / folder):
            # An interrupted job's workspace is made again faster than it is kept.
            folders[:] = sorted(name for name in folders if not (folder == "jobs" and name == "work"))
            for name in sorted(names):
                if folder != "jobs" or full or name in _SMALL_FILES:
                    yield Path(place) / name
