"""Gives a finished file its name, once and only when it is safe on the disk."""

import os
from pathlib import Path

from runtime.errors import OutputError


def publish_file(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a finished file beside its target.

    Args:
        partial: The file under its temporary name.
        target: Its name, in the same folder.
        overwrite: Replace what has that name.

    Raises:
        OutputError: The name is taken, or the file system refuses.
    """
    try:
        _sync(partial)
        if overwrite:
            os.replace(partial, target)
        else:
            _link(partial, target)
        _sync(target.parent)
    except FileExistsError as error:
        raise OutputError(describe_taken(target)) from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error


def describe_taken(target: Path) -> str:
    """Say that a name is taken."""
    return f"{target} exists already; choose another name or allow overwriting"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
