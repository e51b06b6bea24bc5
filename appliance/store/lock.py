"""A lock file that one process holds for as long as it lives, whatever its clock says."""

import os
from pathlib import Path
from typing import Self

from runtime.locking import FileLock


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
    """Give the process id that the last holder of a lock wrote into it."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
