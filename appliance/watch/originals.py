"""Moves an original to the done folder after success, whole or not at all, and never onto another file."""

import filecmp
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final
from uuid import uuid4

from runtime.errors import OutputError
from runtime.media.publish import publish_file
from runtime.plain_files import make_plain_folder

_MOST_NAMES: Final = 10_000


def move_original(path: Path, relative: str, done_folder: Path) -> Path:
    """Move a file to the same place below the done folder.

    Args:
        path: The original.
        relative: Its path below the watch folder.
        done_folder: The done folder; it and what is missing below it are made.

    Returns:
        Where the original is now: under another name where its own was taken.

    Raises:
        OutputError: It cannot be moved, and is where it was.
    """
    try:
        for number in range(1, _MOST_NAMES):
            target = done_folder / _numbered(relative, number)
            make_plain_folder(target.parent, below=done_folder)
            if not os.path.lexists(target):
                return _move(path, target)
            if _is_copy(target, path):
                # An earlier try was stopped before its last step.
                os.unlink(path)
                return target
    except OSError as error:
        raise OutputError(f"the original cannot be moved to {done_folder}: {error.strerror or error}") from error
    raise OutputError(f"the original cannot be moved to {done_folder}: every name for it is taken")


def _numbered(relative: str, number: int) -> PurePosixPath:
    path = PurePosixPath(relative)
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def _is_copy(target: Path, path: Path) -> bool:
    """Tell whether a file is a link to the original, or a copy that was made of it."""
    there, here = os.lstat(target), os.lstat(path)
    if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
        return True
    if not stat.S_ISREG(there.st_mode) or (there.st_size, there.st_mtime_ns) != (here.st_size, here.st_mtime_ns):
        return False
    return filecmp.cmp(target, path, shallow=False)


def _move(path: Path, target: Path) -> Path:
    if os.stat(path).st_dev == os.stat(target.parent).st_dev:
        with suppress(OSError):  # some file systems have no hard links
            os.link(path, target, follow_symlinks=False)
            os.unlink(path)
            return target
        if os.path.lexists(target):
            os.unlink(target)  # the link was made, but the original could not be removed
            raise OutputError("the original cannot be removed from its folder; check its permissions")
    partial = target.with_name(f".{uuid4().hex[:12]}.part")
    try:
        shutil.copy2(path, partial, follow_symlinks=False)
        if os.path.getsize(partial) != os.path.getsize(path):
            raise OutputError("the original changed while it was copied")
        publish_file(partial, target, overwrite=False)
    finally:
        with suppress(OSError):
            partial.unlink()
    try:
        os.unlink(path)
    except OSError:
        target.unlink()
        raise
    return target
