"""The log of a command that runs for long: a file in the data directory that never grows without end."""

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_BYTES: Final = 5_000_000
_KEPT: Final = 5
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def log_to_file(
    data: Path, *, level: int = logging.INFO, size_bytes: int = _BYTES, kept: int = _KEPT
) -> Iterator[Path]:
    """Write what is logged in the block to `logs/relume.log`; beside it at most `kept` older files stay."""
    path = data / "logs" / "relume.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=size_bytes, backupCount=kept, encoding="utf-8", errors="backslashreplace", delay=True
    )
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield path
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()


def set_aside(path: Path, *, size_bytes: int = _BYTES) -> Path:
    """Begin a log anew that others only add to, if it has grown long; the one before it stays beside it.

    Returns:
        The path itself.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size > size_bytes:
            path.replace(path.with_name(f"{path.name}.1"))
    return path
