"""The data directory: its folders, and the lock of the one server that uses it."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from appliance.store.errors import DirectoryInUseError, StoreError
from runtime.file_lock import FileLock, read_holder

_FOLDERS: Final = ("uploads", "jobs", "results", "logs", "backups", "workers", "secrets")
_FILES: Final = ("relume.db", "relume.db-wal", "relume.db-shm", "relume.toml")
"""Files that earlier versions left readable for every user."""


def database_path(data: Path) -> Path:
    """Return the path of the database in a data directory."""
    return data / "relume.db"


@contextmanager
def open_data_directory(path: Path) -> Generator[Path]:
    """Create the data directory if necessary, and lock it against other servers during the block.

    Raises:
        DirectoryInUseError: Another server uses it; nothing was changed.
        StoreError: It cannot be created or written.
    """
    data = path.absolute()
    lock = _take_lock(data)
    with lock:
        prepare_data_directory(data)
        yield data


def prepare_data_directory(data: Path) -> None:
    """Create the folders of a data directory, and restrict them to their owner.

    Raises:
        StoreError: They cannot be created.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The directory itself may belong to another user, as the root of a volume.
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
