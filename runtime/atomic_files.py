"""Files that survive a crash: written, synced and renamed, in this order; and digests that verify them.

Everything durable goes through `os.fsync`, `os.replace`, `os.link` and `os.unlink`, so that a test may stop the process
at each of them.
"""

import errno
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import OutputError

_CHUNK_BYTES: Final = 1 << 20
_WHOLE_BYTES: Final = 8 << 20
_PARTS: Final = 32


@dataclass(frozen=True, slots=True)
class FileRecord:
    """The name, size and digest of a complete file."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileSignature:
    """The size of a file and a digest of parts of it, which identify a large file without reading all of it.

    A file of up to 8 MiB is read whole; of a larger one its ends and 32 parts between.
    """

    size_bytes: int
    sha256: str


@contextmanager
def convert_os_errors(folder: Path, *, result: Path | None = None) -> Generator[None]:
    """Convert errors of the file system.

    Args:
        folder: The folder that is written to.
        result: The file that messages name instead of the folder, where the folder is a temporary one.

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    place = folder if result is None else result.parent
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            full = f"no space left for temporary files in {place}; free some space and start the job again"
            if result is not None:
                full = f"{result} cannot be written: no space left in {place}; free some space or choose another folder"
            raise OutputError(full) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(f"{place} is not writable; choose another folder or change its permissions") from error
        raise OutputError(f"{place} cannot be used: {error.strerror or error}") from error


@contextmanager
def removed_on_error(path: Path) -> Generator[None]:
    """Remove a file that could not be written completely, so that it takes no space on a full disk."""
    try:
        yield
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def sync_path(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: bytes, *, mode: int = 0o666, is_shared: bool = False) -> None:
    """Write a file atomically: after a crash it is either the old one or the new one.

    Args:
        path: The file.
        content: All of it.
        mode: Permissions of the file, before the umask.
        is_shared: Several processes may write it at the same time; the last one wins.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part" if is_shared else f".{path.name}.part")
    with removed_on_error(partial):
        with open(_create(partial, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    sync_path(path.parent)


def _create(path: Path, mode: int) -> int:
    """Create a file, replacing one left by a crash, which in a shared folder could be a link to elsewhere."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, mode)


def remove_durably(*paths: Path) -> None:
    """Remove files that may be missing."""
    folders = set()
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)
            folders.add(path.parent)
    for folder in folders:
        sync_path(folder)


def record_file(path: Path) -> FileRecord:
    """Return the record of a file's current contents."""
    return FileRecord(path.name, path.stat().st_size, _digest(path))


def is_intact(folder: Path, record: FileRecord) -> bool:
    """Return whether a file still matches its record."""
    path = folder / record.name
    try:
        return path.stat().st_size == record.size_bytes and _digest(path) == record.sha256
    except OSError:
        return False


def read_signature(path: Path) -> FileSignature:
    """Return the signature of a file."""
    size = path.stat().st_size
    if size <= _WHOLE_BYTES:
        return FileSignature(size, _digest(path))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in range(_PARTS + 2):
            file.seek((size - _CHUNK_BYTES) * part // (_PARTS + 1))
            digest.update(file.read(_CHUNK_BYTES if part in (0, _PARTS + 1) else _CHUNK_BYTES // 16))
    return FileSignature(size, digest.hexdigest())


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish_file(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a finished file beside its target.

    Args:
        partial: The file under its temporary name.
        target: Its name, in the same folder.
        overwrite: Replace an existing file of that name.

    Raises:
        OutputError: The name is taken, or the file system refuses.
    """
    try:
        sync_path(partial)
        if overwrite:
            os.replace(partial, target)
        else:
            _link(partial, target)
        sync_path(target.parent)
    except FileExistsError as error:
        raise OutputError(describe_taken(target)) from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error


def describe_taken(target: Path) -> str:
    """Return the message for a name that already exists."""
    return f"{target} already exists; choose another name, or use --overwrite"


def _link(partial: Path, target: Path) -> None:
    """Rename without ever replacing a file, on file systems without hard links too."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(partial, target)
    else:
        partial.unlink()
