"""The digest of a file's content, which tells whether it was done before, under whatever name."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from appliance.watch.errors import UnreadableError
from runtime.errors import CancelledError
from runtime.media.source import describe_unreadable
from runtime.plain_files import open_plain
from runtime.segments.durable import mark_file

_BLOCK_BYTES: Final = 1 << 20


def digest_file(path: str, *, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """Give the SHA-256 of a file; a link in its last place is refused.

    Raises:
        UnreadableError: The file cannot be read.
        CancelledError: `is_cancelled` said so.
    """
    digest = sha256()
    try:
        with open(_open(path), "rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if is_cancelled():
                    raise CancelledError("reading the file was stopped")
    except OSError as error:
        raise UnreadableError(describe_unreadable("it", error)) from error
    return digest.hexdigest()


def mark_content(path: str) -> str:
    """Return what tells a result from other files without reading all of it: its size, and parts of its content.

    Raises:
        UnreadableError: The file cannot be read.
    """
    try:
        handle = _open(path)
        try:
            mark = mark_file(Path(f"/proc/self/fd/{handle}"))
        finally:
            os.close(handle)
    except OSError as error:
        raise UnreadableError(describe_unreadable("it", error)) from error
    return f"{mark.size_bytes} bytes {mark.sha256}"


def _open(path: str) -> int:
    return open_plain(Path(path), below=Path(path).parent)
