"""The files of one watch folder: their rows in the database, and an index of them in memory."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from appliance.store.database import Database
from appliance.watch.errors import UnreadableError
from appliance.watch.file_state import RELEASES, FileEvent, FileState, WatchedFile, next_state
from appliance.watch.folder import Problem
from appliance.watch.scan import show_name
from runtime.atomic_files import read_signature
from runtime.errors import CancelledError
from runtime.media.demux import describe_unreadable
from runtime.safe_open import open_plain

_BLOCK_BYTES: Final = 1 << 20
_TRANSIENT: Final = (FileState.SEEN, FileState.STABLE)
"""States that are found out again after a power cut, so that they need not be durable."""

# Failed files; done files whose original could not be moved; duplicates of failed files.
_PROBLEMS: Final = """
    SELECT name, reason, tries, NULL AS same_as FROM watched_files
    WHERE folder = :folder AND (state = 'failed' OR (state = 'done' AND reason <> ''))
    UNION ALL
    SELECT twin.name, first.reason, 0, first.name FROM watched_files AS twin
    JOIN watched_files AS first ON first.folder = twin.folder AND first.name = twin.same_as
    WHERE twin.folder = :folder AND twin.state = 'duplicate' AND first.state = 'failed'
    ORDER BY name
"""
_PUT: Final = (
    "INSERT OR REPLACE INTO watched_files (folder, name, size, mtime_ns, state, digest, job, target, same_as, reason, "
    "tries, retry_at, held, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class FileTable:
    """Rows of the files of one folder, of their contents, and of the results of all folders."""

    def __init__(self, database: Database, folder_id: str) -> None:
        self.database = database
        self._folder = folder_id

    def files(self, *states: FileState) -> list[WatchedFile]:
        """Return the files in some states, or all, by name."""
        wanted = states or tuple(FileState)
        with self.database.read() as connection:
            rows = connection.execute(
                f"SELECT * FROM watched_files WHERE folder = ? AND state IN ({', '.join('?' * len(wanted))}) "
                "ORDER BY name",
                (self._folder, *wanted),
            ).fetchall()
        return [_read_row(row) for row in rows]

    def put(self, *files: WatchedFile) -> None:
        """Insert or replace rows."""
        with self.database.transaction() as connection:
            connection.executemany(_PUT, [(self._folder, *_write_row(file), time.time()) for file in files])

    def remove(self, name: str) -> None:
        """Remove a row."""
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM watched_files WHERE folder = ? AND name = ?", (self._folder, name))

    def problems(self) -> list[Problem]:
        """Return the files that could not be enhanced, their duplicates as well, with reasons."""
        with self.database.read() as connection:
            rows = connection.execute(_PROBLEMS, {"folder": self._folder}).fetchall()
        return [
            Problem(
                show_name(row["name"]),
                row["reason"] if row["same_as"] is None else f"same as {show_name(row['same_as'])}: {row['reason']}",
                row["tries"],
            )
            for row in rows
        ]

    def claim_content(self, digest: str, options: str, name: str) -> tuple[str, bool]:
        """Claim a content for a file, unless another file has claimed it before.

        Returns:
            The name of the file that stands for the content, and True if the content is new.
        """
        with self.database.transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO watched_contents (folder, digest, options, name) VALUES (?, ?, ?, ?)",
                (self._folder, digest, options, name),
            )
            row = connection.execute(
                "SELECT name FROM watched_contents WHERE folder = ? AND digest = ? AND options = ?",
                (self._folder, digest, options),
            ).fetchone()
            return str(row["name"]), cursor.rowcount == 1

    def release_claims(self, file: WatchedFile) -> None:
        """Release the content and the name of the result of a file that will not be processed."""
        with self.database.transaction() as connection:
            connection.execute(
                "DELETE FROM watched_contents WHERE folder = ? AND digest = ? AND name = ?",
                (self._folder, file.digest, file.name),
            )
            if file.target is not None:
                connection.execute(
                    "DELETE FROM watched_results WHERE target = ? AND digest IS NULL", (_result_key(file.target),)
                )

    def reserve(self, target: Path) -> bool:
        """Reserve the name of a result; return False if it belongs to a result of any folder."""
        with self.database.transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO watched_results (target) VALUES (?)", (_result_key(target),)
            )
            return cursor.rowcount == 1

    def set_result(self, target: Path, mark: str) -> None:
        """Store the mark of a result, by which it is recognised wherever it is moved."""
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO watched_results (target, digest) VALUES (?, ?)", (_result_key(target), mark)
            )

    def is_result(self, mark: str) -> bool:
        """Return True for the mark, or the digest, of a result of any folder."""
        with self.database.read() as connection:
            row = connection.execute("SELECT 1 FROM watched_results WHERE digest = ?", (mark,)).fetchone()
        return row is not None


class FileIndex:
    """The rows of one folder in memory, for the one thread that changes them."""

    def __init__(self, table: FileTable) -> None:
        self.table = table
        self._files = {file.name: file for file in table.files()}

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def get(self, name: str) -> WatchedFile | None:
        """Return a file, None for a new one."""
        return self._files.get(name)

    def all(self, *states: FileState) -> list[WatchedFile]:
        """Return the files in some states, or all."""
        return [file for file in self._files.values() if not states or file.state in states]

    def add(self, files: Iterable[WatchedFile]) -> None:
        """Add new files, or replace them."""
        files = list(files)
        if files:
            with self.table.database.transaction(durable=any(file.state not in _TRANSIENT for file in files)):
                self.table.put(*files)
                self._after_commit(*files)

    def update(self, file: WatchedFile, **changes: Any) -> WatchedFile:
        """Change columns other than the state."""
        after = replace(file, **changes)
        with self.table.database.transaction():
            self.table.put(after)
            self._after_commit(after)
        return after

    def transition(self, file: WatchedFile, event: FileEvent, **changes: Any) -> WatchedFile:
        """Apply an event: store the next state with other changed columns, or remove the file.

        A file that stood for its content and will not be processed releases it, and its duplicates are reset to `seen`.

        Raises:
            ValueError: The event is not possible in the file's state.
        """
        state = next_state(file.state, event)
        after = replace(file, state=file.state if state is None else state, **changes)
        with self.table.database.transaction(durable=state not in _TRANSIENT):
            if (file.state, event) in RELEASES:
                self._release(file)
            if state is None:
                self.table.remove(file.name)
                self.table.database.after_commit(partial(self._forget, file.name))
            else:
                self.table.put(after)
                self._after_commit(after)
        return after

    def _release(self, file: WatchedFile) -> None:
        self.table.release_claims(file)
        for twin in self.all(FileState.DUPLICATE):
            if twin.same_as == file.name and twin.digest == file.digest:
                self.transition(twin, FileEvent.ORIGINAL_RELEASED, digest=None, same_as=None)

    def _forget(self, name: str) -> None:
        self._files.pop(name, None)

    def _after_commit(self, *files: WatchedFile) -> None:
        self.table.database.after_commit(partial(self._files.update, {file.name: file for file in files}))


def digest_file(path: str, *, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """Return the SHA-256 of a file; a path that ends in a link is refused.

    Raises:
        UnreadableError: The file cannot be read.
        CancelledError: `is_cancelled` returned True.
    """
    digest = sha256()
    try:
        with open(_open(path), "rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if is_cancelled():
                    raise CancelledError("reading the file was cancelled")
    except OSError as error:
        raise UnreadableError(describe_unreadable("it", error)) from error
    return digest.hexdigest()


def mark_content(path: str) -> str:
    """Return a mark by which a result is recognised without reading all of it: its size, and parts of its content.

    Raises:
        UnreadableError: The file cannot be read.
    """
    try:
        handle = _open(path)
        try:
            mark = read_signature(Path(f"/proc/self/fd/{handle}"))
        finally:
            os.close(handle)
    except OSError as error:
        raise UnreadableError(describe_unreadable("it", error)) from error
    return f"{mark.size_bytes} bytes {mark.sha256}"


def is_stat(path: str, size: int, mtime_ns: int) -> bool:
    """Return True if a file exists with that size and time."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (size, mtime_ns)


def _open(path: str) -> int:
    return open_plain(Path(path), below=Path(path).parent)


def _result_key(target: Path) -> str:
    """Return the same key for names that a case-insensitive file system does not distinguish."""
    return str(target).casefold()


def _write_row(file: WatchedFile) -> tuple[object, ...]:
    target = None if file.target is None else str(file.target)
    held = int(file.held)
    return (
        *(file.name, file.size, file.mtime_ns, file.state, file.digest, file.job, target),
        *(file.same_as, file.reason, file.tries, file.retry_at, held),
    )


def _read_row(row: sqlite3.Row) -> WatchedFile:
    return WatchedFile(
        name=row["name"],
        size=row["size"],
        mtime_ns=row["mtime_ns"],
        state=FileState(row["state"]),
        digest=row["digest"],
        job=row["job"],
        target=None if row["target"] is None else Path(row["target"]),
        same_as=row["same_as"],
        reason=row["reason"],
        tries=row["tries"],
        retry_at=row["retry_at"],
        held=bool(row["held"]),
    )
