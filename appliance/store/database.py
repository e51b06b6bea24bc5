"""The SQLite database: connections, transactions, and errors."""

import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from appliance.store.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseFullError,
    StoreError,
)
from appliance.store.migrations import MIGRATIONS, migrate
from runtime.closing import Closing

BUSY_TIMEOUT_S: Final = 30.0
_KEPT_CONNECTIONS: Final = 8


class Database(Closing):
    """One database file, for any number of threads and processes.

    With WAL readers do not wait for the writer, and every durable commit is on the disk before it returns. A thread
    borrows an idle connection, and keeps it inside `read` or `transaction`, so that they nest.
    """

    def __init__(
        self, path: Path, *, migrations: Path = MIGRATIONS, busy_timeout_s: float = BUSY_TIMEOUT_S, check: bool = False
    ) -> None:
        """Open or create the database, and apply missing migrations.

        Args:
            path: The file; its folder must exist.
            migrations: The folder of the numbered migrations.
            busy_timeout_s: Time to wait for another process.
            check: Check the integrity first, which reads the whole file.

        Raises:
            DatabaseDamagedError: The file is not a database, or damaged; it is left unchanged.
            DatabaseNewerError: A newer version of Relume wrote it; it is left unchanged.
            StoreError: It cannot be opened or changed.
        """
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._held = threading.local()
        try:
            with self.read() as connection:
                if check:
                    self._check(connection)
                with self._translate_errors():
                    migrate(connection, path, migrations)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Generator[sqlite3.Connection]:
        """Borrow a connection; inside a transaction of this thread, it is that transaction's.

        Raises:
            StoreError: The database is locked by another process, damaged, or out of space.
        """
        held: sqlite3.Connection | None = getattr(self._held, "connection", None)
        if held is not None:
            with self._translate_errors():
                yield held
            return
        connection = self._borrow()
        self._held.connection = connection
        try:
            with self._translate_errors():
                yield connection
        finally:
            self._held.connection = None
            self._return(connection)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Generator[sqlite3.Connection]:
        """Run a write transaction, rolled back after an exception.

        It holds the write lock from the first line of the block to its end. A transaction inside another of the same
        thread is part of it.

        All other writers wait meanwhile: slow operations, such as those on files, belong into `after_commit`.

        Args:
            durable: Sync to the disk before it returns. Otherwise a power cut may undo it, which damages nothing: right
                for progress and heartbeats, which would wear out a memory card and wait for it twice a second.

        Raises:
            StoreError: The database is locked by another process, damaged, or out of space.
        """
        with self.read() as connection:
            if connection.in_transaction:
                yield connection
                return
            if not durable:
                connection.execute("PRAGMA synchronous = NORMAL")
            later: list[Callable[[], None]] = []
            self._held.later = later
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite rolls back itself after some errors, such as a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._held.later = None
                if not durable:
                    connection.execute("PRAGMA synchronous = FULL")
        for action in later:
            action()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call a function after this thread's transaction has been committed; at once where there is none."""
        later: list[Callable[[], None]] | None = getattr(self._held, "later", None)
        if later is None:
            action()
        else:
            later.append(action)

    def backup(self, target: Path) -> None:
        """Copy the current state of the database while others use it; an existing file is replaced.

        Raises:
            StoreError: The copy cannot be written.
        """
        partial = target.with_name(f".{target.name}.part")
        try:
            with self.read() as connection:
                copy = sqlite3.connect(partial)
                try:
                    connection.backup(copy)
                finally:
                    copy.close()
            partial.replace(target)
        except DatabaseFullError as error:
            raise DatabaseFullError(
                f"the database cannot be copied to {target}: no space is left there; free some space, or choose "
                "another folder"
            ) from error
        except OSError as error:
            raise StoreError(f"the database cannot be copied to {target}: {error.strerror}") from error
        finally:
            with suppress(OSError):
                partial.unlink()

    def close(self) -> None:
        """Close all idle connections; borrowed ones are closed when they are returned."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError(f"the database {self.path} was closed; open it again")
            if self._idle:
                return self._idle.pop()
        with self._translate_errors():
            return self._connect()

    def _return(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _KEPT_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        # SQLite would create it readable for everyone; its log files get the mode of the database. An existing file is
        # not opened here: closing it would release the locks that SQLite holds on it in this process.
        with suppress(OSError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a job that was reported as taken is still there after a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise DatabaseDamagedError(_describe_damage(self.path, found))

    @contextmanager
    def _translate_errors(self) -> Generator[None]:
        """Turn SQLite errors about the file into ours; errors in SQL and violated constraints pass."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            known = _explain(self.path, self._busy_timeout_s, error)
            if known is None:
                raise
            raise known from error


def _explain(path: Path, busy_timeout_s: float, error: sqlite3.DatabaseError) -> StoreError | None:
    # The lower byte is the primary code.
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else code & 0xFF
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusyError(
            f"the database {path} was locked by another program for more than {busy_timeout_s:g} s; "
            "close that program (a backup or a database browser), then try again"
        )
    # Changed bytes inside a text, which SQLite's own check does not read.
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(error).startswith("Could not decode to UTF-8"):
        return DatabaseDamagedError(_describe_damage(path, str(error)))
    if kind == sqlite3.SQLITE_FULL:
        return DatabaseFullError(f"the database {path} cannot grow: no space is left in {path.parent}; free some space")
    if kind == sqlite3.SQLITE_IOERR:
        return StoreError(f"the database {path} cannot be read or written ({error}); is the disk full or broken?")
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(
            f"the database {path} cannot be opened for writing ({error}); "
            f"check that {path.parent} exists and belongs to the user that runs Relume"
        )
    return None


def _describe_damage(path: Path, what: str) -> str:
    return (
        f"the database {path} is damaged ({' '.join(what.split())}); it was left unchanged. Put a backup from "
        f"{path.parent / 'backups'} in its place, or move it away to begin with an empty queue; "
        "sources and finished results are not touched"
    )
