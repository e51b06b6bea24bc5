"""A lock file that one process holds for as long as it lives, whatever its clock says."""

import fcntl
import os
from pathlib import Path
from typing import Self

from runtime.closing import Closing


class LockFile(Closing):
    """A held lock; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Take the lock, and write this process's id into it; None where another process holds it.

        Raises:
            OSError: The file cannot be made.
        """
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return cls(handle)

    def close(self) -> None:
        """Let go of the lock; the file stays, since another process may be about to lock it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def read_holder(path: Path) -> int | None:
    """Give the process id that the last holder of a lock wrote into it."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
