"""The digest of a file's content, which tells whether it was done before, under whatever name."""

import os
import sqlite3
import time
from collections.abc import Callable, Collection
from hashlib import sha256
from pathlib import Path
from typing import Final

from appliance.store.database import Database
from appliance.watch.errors import UnreadableError
from appliance.watch.folder import FileState, Problem, WatchedFile, WatchFolder
from appliance.watch.path_rules import mount_name
from appliance.watch.scan import show_name
from runtime.atomic_files import mark_file
from runtime.errors import CancelledError
from runtime.media.demux import describe_unreadable
from runtime.safe_open import open_plain

_BLOCK_BYTES: Final = 1 << 20


def digest_file(path: str, *, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """Return the SHA-256 of a file; a link in its last place is refused.

    Raises:
        UnreadableError: The file cannot be read.
        CancelledError: `is_cancelled` said so.
    """
    digest = sha256()
    try:
        with open(_open(path), "rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if is_cancelled():
                    raise CancelledError("reading the file was stopped")
    except OSError as error:
        raise UnreadableError(describe_unreadable("it", error)) from error
    return digest.hexdigest()


def mark_content(path: str) -> str:
    """Return what tells a result from other files without reading all of it: its size, and parts of its content.

    Raises:
        UnreadableError: The file cannot be read.
    """
    try:
        handle = _open(path)
        try:
            mark = mark_file(Path(f"/proc/self/fd/{handle}"))
        finally:
            os.close(handle)
    except OSError as error:
        raise UnreadableError(describe_unreadable("it", error)) from error
    return f"{mark.size_bytes} bytes {mark.sha256}"


def _open(path: str) -> int:
    return open_plain(Path(path), below=Path(path).parent)


# What is broken; what is done, but for its original, which could not be moved; what is the same as something broken.
_PROBLEMS: Final = """
    SELECT name, reason, tries, NULL AS same_as FROM watched_files
    WHERE folder = :folder AND (state = 'broken' OR (state = 'done' AND reason <> ''))
    UNION ALL
    SELECT twin.name, first.reason, 0, first.name FROM watched_files AS twin
    JOIN watched_files AS first ON first.folder = twin.folder AND first.name = twin.same_as
    WHERE twin.folder = :folder AND twin.state = 'same' AND first.state = 'broken'
    ORDER BY name
"""


class Ledger:
    """The record of one folder."""

    def __init__(self, database: Database, folder_id: str) -> None:
        self._database, self._folder = database, folder_id

    def files(self, *states: FileState) -> list[WatchedFile]:
        """Return the files in some states, or all, by name."""
        wanted = states or tuple(FileState)
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT * FROM watched_files WHERE folder = ? AND state IN ({', '.join('?' * len(wanted))}) "
                "ORDER BY name",
                (self._folder, *wanted),
            ).fetchall()
        return [_file(row) for row in rows]

    def get(self, name: str) -> WatchedFile | None:
        """Return what is known of a file, None where it is new."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT * FROM watched_files WHERE folder = ? AND name = ?", (self._folder, name)
            ).fetchone()
        return None if row is None else _file(row)

    def put(self, file: WatchedFile) -> None:
        """Note what became of a file."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO watched_files (folder, name, size, mtime_ns, state, digest, job, target, "
                "same_as, reason, tries, retry_at, held, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._folder,
                    file.name,
                    file.size,
                    file.mtime_ns,
                    file.state,
                    file.digest,
                    file.job,
                    None if file.target is None else str(file.target),
                    file.same_as,
                    file.reason,
                    file.tries,
                    file.retry_at,
                    int(file.held),
                    time.time(),
                ),
            )

    def forget(self, names: Collection[str]) -> None:
        """Remove files from the record."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM watched_files WHERE folder = ? AND name = ?", [(self._folder, name) for name in names]
            )

    def problems(self) -> list[Problem]:
        """List the files that could not be enhanced, those of the same content too, and why."""
        with self._database.read() as connection:
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
        """Let a file stand for a content.

        Returns:
            The name of the file that stands for it, another one if it came before; and whether the content is new.
        """
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO watched_contents (folder, digest, options, name) VALUES (?, ?, ?, ?)",
                (self._folder, digest, options, name),
            )
            row = connection.execute(
                "SELECT name FROM watched_contents WHERE folder = ? AND digest = ? AND options = ?",
                (self._folder, digest, options),
            ).fetchone()
            return str(row["name"]), cursor.rowcount == 1

    def release_content(self, file: WatchedFile) -> None:
        """Let another file of the same content be done, as this one was not, and give up the result's name."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM watched_contents WHERE folder = ? AND digest = ? AND name = ?",
                (self._folder, file.digest, file.name),
            )
            connection.execute(
                "DELETE FROM watched_files WHERE folder = ? AND same_as = ? AND state = 'same' AND digest = ?",
                (self._folder, file.name, file.digest),
            )
            if file.target is not None:
                connection.execute(
                    "DELETE FROM watched_results WHERE target = ? AND digest IS NULL", (_key(file.target),)
                )

    def reserve(self, target: Path) -> bool:
        """Keep a result's name for a job, and tell whether it was free among the results of all folders."""
        with self._database.transaction() as connection:
            cursor = connection.execute("INSERT OR IGNORE INTO watched_results (target) VALUES (?)", (_key(target),))
            return cursor.rowcount == 1

    def set_result(self, target: Path, digest: str) -> None:
        """Note the content of a result, by which it is known wherever it is moved."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO watched_results (target, digest) VALUES (?, ?)", (_key(target), digest)
            )

    def is_result(self, digest: str) -> bool:
        """Return whether a content is a result of a watch folder."""
        with self._database.read() as connection:
            row = connection.execute("SELECT 1 FROM watched_results WHERE digest = ?", (digest,)).fetchone()
        return row is not None


def _key(target: Path) -> str:
    """Return the same key for names that a file system without regard to case takes for one."""
    return str(target).casefold()


def _file(row: sqlite3.Row) -> WatchedFile:
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


class KnownFiles:
    """The files of a folder; used by one thread, which alone changes the folder's ledger."""

    def __init__(self, folder: WatchFolder, ledger: Ledger) -> None:
        self.ledger = ledger
        self._root = folder.wish.path
        self._files = {file.name: file for file in ledger.files()}

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def get(self, name: str) -> WatchedFile | None:
        """Return what is known of a file, None where it is new."""
        return self._files.get(name)

    def all(self, *states: FileState) -> list[WatchedFile]:
        """Return the files in some states, or all."""
        return [file for file in self._files.values() if not states or file.state in states]

    def put(self, file: WatchedFile) -> None:
        """Note what became of a file."""
        self.ledger.put(file)
        self._files[file.name] = file

    def note(self, file: WatchedFile) -> None:
        """Remember what the ledger was told of already."""
        self._files[file.name] = file

    def overlook(self, file: WatchedFile) -> None:
        """Take a file for a new one; the ledger keeps it until it is known again."""
        self._files.pop(file.name, None)

    def forget(self, file: WatchedFile) -> None:
        """Remove a file from the record."""
        self.ledger.forget([file.name])
        self.overlook(file)

    def release(self, file: WatchedFile) -> None:
        """Let another file of the same content be done, as this one was not."""
        self.ledger.release_content(file)
        for other in self.all(FileState.SAME):
            if other.same_as == file.name and other.digest == file.digest:
                self.overlook(other)

    def path(self, file: WatchedFile) -> Path:
        """Return the place of a file."""
        return self._root / file.name


def find_missing_mount(mount: str | None, path: Path) -> str | None:
    """Say that a share or disk is not where it was: nothing is taken from, or written to, what lies under it."""
    if mount is None or mount_name(path) == mount:
        return None
    return f"{mount} is not mounted any more, so {show_name(str(path))} is not what it was; mount it again"


def is_stat(path: str, size: int, mtime_ns: int) -> bool:
    """Return whether a file is there with that size and time."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (size, mtime_ns)
