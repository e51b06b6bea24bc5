"""The data directory: its folders, and the one server that may work in it."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from appliance.store.errors import DirectoryInUseError, StoreError
from runtime.file_lock import FileLock, read_holder

_FOLDERS: Final = ("uploads", "jobs", "results", "logs", "backups", "workers", "secrets")
_FILES: Final = ("relume.db", "relume.db-wal", "relume.db-shm", "relume.toml")
"""What earlier versions left readable for every user of the machine."""


def database_path(data: Path) -> Path:
    """Return the place of the database in a data directory."""
    return data / "relume.db"


@contextmanager
def open_data_directory(path: Path) -> Generator[Path]:
    """Make the data directory where it is missing, and keep every other server out while the block runs.

    Raises:
        DirectoryInUseError: Another server works in it; nothing was changed.
        StoreError: It cannot be made or written to.
    """
    data = path.absolute()
    lock = _take_lock(data)
    with lock:
        prepare_data_directory(data)
        yield data


def prepare_data_directory(data: Path) -> None:
    """Make the folders of a data directory, for its owner's eyes only, one that others made before as well.

    Raises:
        StoreError: They cannot be made.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What holds no secret stays as it is where another user owns it, as the root of a volume may.
        if data.stat().st_uid == os.geteuid():
            data.chmod(0o700)
        for name in _FOLDERS:
            (data / name).mkdir(exist_ok=True, mode=0o700)
            (data / name).chmod(0o700)
        for name in _FILES:
            with suppress(FileNotFoundError):
                (data / name).chmod(0o600)
    except OSError as error:
        raise _refusal(data, error) from error


def _take_lock(data: Path) -> FileLock:
    path = data / "relume.lock"
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock.try_exclusive(path, write_pid=True)
    except OSError as error:
        raise _refusal(data, error) from error
    if lock is None:
        holder = read_holder(path)
        raise DirectoryInUseError(
            f"the data directory {data} is in use by another Relume server"
            + (f" (process {holder})" if holder else "")
            + "; stop that one, or choose another directory with --data"
        )
    return lock


def _refusal(data: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the data directory {data} cannot be used: {error.strerror}; "
        "choose another with --data, or give it to the user that runs Relume"
    )
