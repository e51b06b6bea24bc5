"""Opens files and creates folders that other people can replace, without following their links or blocking.

Anyone who can write to a watch folder or destination can replace a file by a link to a secret, or by a pipe that blocks
the process that opens it. Files opened here are regular files in the requested place.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotPlainError(OSError):
    """A path is not a regular file or folder, or is reached through a link; `strerror` is for the user."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(0, reason, str(path))


def open_plain(path: Path, *, below: Path | None = None) -> int:
    """Open a regular file for reading; never block on a pipe or a device.

    Args:
        path: The file.
        below: A folder that the file must be in; links are followed up to it, but not below it. Without it links are
        followed, as in a path that someone typed.

    Returns:
        The descriptor, for the caller to close. It stays the same file whatever happens to the name.

    Raises:
        NotPlainError: It is not a regular file, is reached through a link, or is not below the folder.
        OSError: It is missing or cannot be read.
    """
    if below is None:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    else:
        *folders, name = _parts_below(path, below)
        folder = _walk(below, folders)
        try:
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode):
            raise NotPlainError(path, f"it is {_describe(mode)}, expected a file")
        # Opening with O_PATH cannot block; the file is opened only now that it is known to be a regular one.
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def make_plain_folder(path: Path, *, below: Path) -> None:
    """Create a folder and its parents below another folder, which is created as well if missing.

    Raises:
        NotPlainError: A part of the path is a link or a file, or the folder is not below the other one.
        OSError: It cannot be created.
    """
    below.mkdir(parents=True, exist_ok=True)
    os.close(_walk(below, _parts_below(path, below), make=True))


def _parts_below(path: Path, below: Path) -> tuple[str, ...]:
    outside = f"it is not below {below}"
    try:
        parts = path.relative_to(below).parts
    except ValueError:
        raise NotPlainError(path, outside) from None
    if ".." in parts:
        raise NotPlainError(path, outside)
    return parts


def _walk(folder: Path, names: Sequence[str], *, make: bool = False) -> int:
    """Open a folder below another one step by step; every part of the path must be a real folder."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    path = folder
    for name in names:
        path = path / name
        try:
            if make:
                _make(name, handle)
            inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        finally:
            os.close(handle)
        mode = os.fstat(inner).st_mode
        if not stat.S_ISDIR(mode):
            os.close(inner)
            raise NotPlainError(path, f"{path} is {_describe(mode)}, expected a folder")
        handle = inner
    return handle


def _make(name: str, folder: int) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return


def _describe(mode: int) -> str:
    return next((what for is_kind, what in _KINDS if is_kind(mode)), "a file")
