"""Locks between processes, which the kernel lets go of when the process ends, however it ends."""

import fcntl
import os
import threading
from pathlib import Path
from typing import Final, Self

from runtime.closing import Closing
from runtime.errors import CancelledError

_POLL_S: Final = 0.1


class FileLock(Closing):
    """A held lock on a file, alone or shared with others.

    A builder of engines holds its key's lock alone, and whoever uses an engine shares that of the engine's own file.
    """

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @classmethod
    def try_alone(cls, path: Path) -> Self | None:
        """Take the lock alone, making the file; None where another holds it.

        Raises:
            OSError: The file cannot be made.
        """
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return cls._take(handle, fcntl.LOCK_EX)

    @classmethod
    def wait_alone(cls, path: Path, stop: threading.Event, *, holder: str) -> Self:
        """Take the lock alone, as soon as it is free; `holder` says what the other process does meanwhile.

        Raises:
            CancelledError: `stop` was set while it was not.
        """
        while True:
            lock = cls.try_alone(path)
            if lock is not None:
                return lock
            if stop.wait(_POLL_S):
                raise CancelledError(f"stopped while another process {holder}")

    @classmethod
    def try_existing(cls, path: Path, *, shared: bool) -> Self | None:
        """Take the lock of a file that is there; None where it is gone, or another's hold does not go with this.

        Raises:
            OSError: The file cannot be opened.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        lock = cls._take(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        if lock is not None and not lock.is_of(path):
            # It was removed or replaced between the two calls.
            lock.close()
            return None
        return lock

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

    def is_of(self, path: Path) -> bool:
        """Return whether the locked file is the one that is there under a name now."""
        assert self._handle is not None
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(path))
        except FileNotFoundError:
            return False

    def write(self, text: str) -> None:
        """Put a text in place of what the file holds.

        Raises:
            OSError: The disk cannot take it.
        """
        assert self._handle is not None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text.encode("ascii"), 0)

    def close(self) -> None:
        """Let go of the lock; its file stays, since another process may be about to take it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def is_held(path: Path) -> bool:
    """Return whether some process holds a lock alone."""
    try:
        lock = FileLock.try_existing(path, shared=True)
    except OSError:
        return False
    if lock is None:
        return path.exists()
    lock.close()
    return False


class LockFile(FileLock):
    """A held lock; its file tells the process."""

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Take the lock, and write this process's id into it; None where another process holds it.

        Raises:
            OSError: The file cannot be made.
        """
        lock = cls.try_alone(path)
        if lock is None:
            return None
        try:
            lock.write(f"{os.getpid()}\n")
        except BaseException:
            lock.close()
            raise
        return lock


def read_holder(path: Path) -> int | None:
    """Return the process id that the last holder of a lock wrote into it."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
