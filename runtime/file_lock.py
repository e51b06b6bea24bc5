"""Locks between processes; the kernel releases them when the process ends, however it ends."""

import fcntl
import os
import threading
from pathlib import Path
from typing import Final, Self

from runtime.closing import Closing
from runtime.errors import CancelledError

_POLL_S: Final = 0.1


class FileLock(Closing):
    """A held lock on a file or folder, exclusive or shared."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @classmethod
    def try_exclusive(cls, path: Path, *, write_pid: bool = False) -> Self | None:
        """Acquire an exclusive lock, creating the file; None if another process holds it.

        Args:
            path: The lock's file. It stays after the lock is released, since another process may be about to take it.
            write_pid: Write the process id into the file, for `read_holder`.

        Raises:
            OSError: The file cannot be created or written.
        """
        lock = cls._take(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX)
        if lock is not None and write_pid:
            try:
                lock._write(f"{os.getpid()}\n")
            except BaseException:
                lock.close()
                raise
        return lock

    @classmethod
    def wait_exclusive(cls, path: Path, stop: threading.Event, *, holder: str) -> Self:
        """Wait for an exclusive lock; `holder` describes what the other process does meanwhile.

        Raises:
            CancelledError: `stop` was set before the lock was free.
        """
        while True:
            lock = cls.try_exclusive(path)
            if lock is not None:
                return lock
            if stop.wait(_POLL_S):
                raise CancelledError(f"stopped while another process {holder}")

    @classmethod
    def try_existing(cls, path: Path, *, shared: bool) -> Self | None:
        """Acquire the lock of an existing file or folder; None if it is missing, or locked by another process.

        Raises:
            OSError: It cannot be opened or locked.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        lock = cls._take(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        if lock is not None and not lock._is_of(path):
            # It was removed or replaced between the two calls.
            lock.close()
            return None
        return lock

    @classmethod
    def wait_existing(cls, path: Path) -> Self:
        """Wait for the exclusive lock of an existing file or folder; only for locks that are held for a moment.

        Raises:
            OSError: It cannot be opened or locked.
        """
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except BaseException:
            os.close(handle)
            raise
        return cls(handle)

    @classmethod
    def _take(cls, handle: int, kind: int) -> Self | None:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return cls(handle)

    def _is_of(self, path: Path) -> bool:
        """Return whether the locked file still has this name."""
        assert self._handle is not None
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(path))
        except FileNotFoundError:
            return False

    def _write(self, text: str) -> None:
        assert self._handle is not None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text.encode("ascii"), 0)

    def close(self) -> None:
        """Release the lock."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def is_held(path: Path) -> bool:
    """Return whether some process holds an exclusive lock."""
    try:
        lock = FileLock.try_existing(path, shared=True)
    except OSError:
        return False
    if lock is None:
        return path.exists()
    lock.close()
    return False


def read_holder(path: Path) -> int | None:
    """Return the process id that the last holder of a lock wrote into its file."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
