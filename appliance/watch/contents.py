"""The digest of a file's content, which tells whether it was done before, under whatever name."""

import os
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from appliance.watch.errors import UnreadableError
from runtime.errors import CancelledError
from runtime.media.source import describe_unreadable

_BLOCK_BYTES: Final = 1 << 20


def digest_file(path: str, *, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """Give the SHA-256 of a file; a link in its last place is refused.

    Raises:
        UnreadableError: The file cannot be read.
        CancelledError: `is_cancelled` said so.
    """
    digest = sha256()
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if is_cancelled():
                    raise CancelledError("reading the file was stopped")
    except OSError as error:
        raise UnreadableError(describe_unreadable("it", error)) from error
    return digest.hexdigest()
